import CEspalierKernels
import EspalierTensors
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// What the address sanitizer offers to programs, where this one was built with it.
private enum AddressSanitizer {
    typealias Call = @convention(c) (UnsafeRawPointer, Int) -> Void

    static let poison = unsafe function("__asan_poison_memory_region")
    static let unpoison = unsafe function("__asan_unpoison_memory_region")

    private static func function(_ name: String) -> Call? {
        unsafe dlsym(nil, name).map { unsafe unsafeBitCast($0, to: Call.self) }
    }
}

/// Elements at an address that is aligned to nothing but their own size, between guards of 0xFF
/// bytes:
/// as floats these are NaN, so that a stray read shows as well as a stray write.
///
/// Inside of `expectTwins` it lives until the comparison is over: a pointer taken from it keeps nothing alive.
@safe final class Guarded<Element: BitwiseCopyable> {
    let pointer: UnsafeMutablePointer<Element>
    private let block: UnsafeMutableRawPointer
    private let count: Int
    private let size: Int
    private static var front: Int { 64 + MemoryLayout<Element>.stride }

    init(_ values: [Element]) {
        count = values.count
        size = Guarded.front + values.count * MemoryLayout<Element>.stride + 128
        unsafe block = .allocate(byteCount: size, alignment: 64)
        unsafe memset(block, 0xFF, size)
        unsafe pointer = (block + Guarded.front).bindMemory(
            to: Element.self, capacity: max(count, 1))
        for (index, value) in values.enumerated() { unsafe pointer[index] = value }
        unsafe mark(AddressSanitizer.poison)
        GuardedKeeper.current?.kept.append(self)
    }

    /// Tells the address sanitizer, where it runs, whether the guards may be touched.
    private func mark(_ call: AddressSanitizer.Call?) {
        let end = Guarded.front + count * MemoryLayout<Element>.stride
        unsafe call?(block, Guarded.front)
        unsafe call?(block + end, size - end)
    }

    convenience init(_ value: Element, count: Int) {
        self.init([Element](repeating: value, count: count))
    }

    deinit {
        unsafe mark(AddressSanitizer.unpoison)
        unsafe block.deallocate()
    }

    /// The elements, after a look at the guards.
    var values: [Element] {
        unsafe mark(AddressSanitizer.unpoison)
        defer { unsafe mark(AddressSanitizer.poison) }
        let end = Guarded.front + count * MemoryLayout<Element>.stride
        let bytes = unsafe UnsafeRawBufferPointer(start: block, count: size)
        for index in 0..<size where index < Guarded.front || index >= end {
            let byte = unsafe bytes[index]
            if byte != 0xFF {
                Issue.record(
                    "a kernel wrote \(index - end) bytes from the end of \(count) elements")
                break
            }
        }
        return (0..<count).map { unsafe pointer[$0] }
    }
}

/// Sizes around the vector width, and primes.
let kernelSizes = [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 127, 251, 509, 997]
/// Rows x columns around the vector width, and primes.
let kernelMatrices = [
    (0, 5), (5, 0), (1, 1), (1, 17), (2, 16), (3, 1), (7, 15), (13, 31), (17, 33), (101, 3),
    (5, 127), (29, 64), (2, 509),
]

let floatEpsilon = Double(Float.ulpOfOne)

/// Normal random numbers; `salt` gives others for the same count.
func numbers(_ count: Int, _ salt: Int = 0) -> [Float] {
    RandomStream(seed: UInt64(count &* 1_000 &+ salt)).normal(count)
}

func kernels(_ isa: ISA) -> esp_kernels {
    guard let table = unsafe KernelTable.table(for: isa) else { fatalError("no \(isa)") }
    return unsafe table.pointee
}

/// Compares the results of all ISAs with the scalar one's: bit by bit, or within `bounds`. The
/// vector ISAs
/// must agree with each other bit by bit, because they add in the same order, unless one `varies`.
func expectTwins(
    _ context: String, bounds: [Double]? = nil, varies: Bool = false,
    _ body: (esp_kernels) -> [Float]
) {
    // One thread at a time: the keeper is this comparison's own.
    func run(_ table: esp_kernels) -> [Float] {
        GuardedKeeper.$current.withValue(GuardedKeeper()) { unsafe body(table) }
    }
    let reference = unsafe run(kernels(.scalar))
    var vector: (isa: ISA, values: [Float])?
    for isa in ISA.available where isa != .scalar {
        let got = unsafe run(kernels(isa))
        if got.count != reference.count {
            Issue.record("\(context) [\(isa)]: \(got.count) results for \(reference.count)")
            continue
        }
        for index in got.indices {
            let (x, y) = (got[index], reference[index])
            let fits =
                if let bounds {
                    (x.isNaN && y.isNaN) || x == y || abs(Double(x) - Double(y)) <= bounds[index]
                } else {
                    (x.isNaN && y.isNaN) || x.bitPattern == y.bitPattern
                }
            if !fits {
                Issue.record("\(context) [\(isa)] at \(index): \(x), scalar \(y)")
                break
            }
        }
        if let vector, !varies {
            for index in got.indices where !got[index].isNaN || !vector.values[index].isNaN {
                if got[index].bitPattern != vector.values[index].bitPattern {
                    let (a, b) = (got[index], vector.values[index])
                    Issue.record("\(context) at \(index): \(isa) \(a), \(vector.isa) \(b)")
                    break
                }
            }
        }
        vector = (isa, got)
    }
}

/// What one comparison has made.
final class GuardedKeeper: @unchecked Sendable {
    @TaskLocal static var current: GuardedKeeper?
    var kept: [AnyObject] = []
}

typealias KernelCheck = @Sendable () -> Void

/// Every kernel's comparison with the scalar reference, by its name in kernels.def.
let kernelChecks: [String: KernelCheck] = [
    elementKernelChecks, reductionKernelChecks, columnKernelChecks, windowKernelChecks,
    updateKernelChecks, layerKernelChecks, int8KernelChecks, sparseKernelChecks,
    quantizeKernelChecks, functionKernelChecks, rowKernelChecks, copyKernelChecks,
    sparseFloatKernelChecks,
    productKernelChecks, halfProductKernelChecks,
    convolutionKernelChecks,
    attentionKernelChecks, lossKernelChecks,
].reduce(into: [:]) { all, part in all.merge(part) { first, _ in first } }

@Suite struct KernelTwinTests {
    @Test(arguments: kernelChecks.keys.sorted()) func agreesWithScalar(_ name: String) {
        kernelChecks[name]?()
    }

    @Test func everyKernelIsChecked() {
        var names: Set<String> = []
        var index = 0
        while let name = unsafe esp_kernel_name(index) {
            names.insert(unsafe String(cString: name))
            index += 1
        }
        #expect(!names.isEmpty)
        #expect(names == Set(kernelChecks.keys))
    }

    /// Salmon's own vectors.
    @Test(arguments: ISA.available) func philoxKnownAnswers(_ isa: ISA) {
        let c = unsafe kernels(isa)
        for (key, stream, block, expected) in [
            (
                UInt64(0), UInt64(0), UInt64(0),
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
            ),
            (
                .max, .max, .max,
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
            ),
        ] as [(UInt64, UInt64, UInt64, [UInt32])] {
            // The first of one block, and of a whole vector of blocks.
            for blocks in [1, 16] {
                let words = Guarded<UInt32>(0, count: 4 * blocks)
                unsafe c.u32_philox(key, stream, block, words.pointer, blocks)
                #expect(Array(words.values.prefix(4)) == expected)
            }
        }
    }

    @Test(arguments: ISA.available) func crcKnownAnswer(_ isa: ISA) {
        let bytes = Guarded(Array("123456789".utf8))
        let c = unsafe kernels(isa)
        #expect(unsafe c.u8_crc32c(0, bytes.pointer, 9) == 0xe306_9283)
        let head = unsafe c.u8_crc32c(0, bytes.pointer, 4)
        #expect(unsafe c.u8_crc32c(head, bytes.pointer + 4, 5) == 0xe306_9283)
    }

    /// At most 2 ulp from the true value where the result is a normal float, and the edges.
    @Test(arguments: ISA.available) func exponential(_ isa: ISA) {
        let c = unsafe kernels(isa)
        func exponentials(_ x: [Float]) -> [Float] {
            let (source, y) = (Guarded(x), Guarded<Float>(0, count: x.count))
            unsafe c.f32_exp(source.pointer, y.pointer, x.count)
            return y.values
        }
        let x = (0...200_000).map { -87 + 175 * Float($0) / 200_000 }
        var worst = 0.0
        for (x, y) in zip(x, exponentials(x)) {
            let truth = exp(Double(x))
            worst = max(worst, abs(Double(y) - truth) / Double(Float(truth).ulp))
        }
        #expect(worst <= 2)
        let edges = exponentials([0, -0.0, .infinity, -.infinity, 89, 1e30, -110, -1e30, .nan])
        #expect(edges.prefix(8).elementsEqual([1, 1, .infinity, 0, .infinity, .infinity, 0, 0]))
        #expect(edges[8].isNaN)
        #expect(edges.prefix(8).allSatisfy { $0.sign == .plus })
    }
}
