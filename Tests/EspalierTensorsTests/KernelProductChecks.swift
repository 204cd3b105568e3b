import CEspalierKernels
import EspalierTensors
import Testing

/// Rows, columns and depth around the tiles of both vector widths, and primes.
private let productExtents = [
    (1, 1, 1), (1, 32, 5), (2, 16, 3), (3, 17, 0), (5, 31, 16), (6, 33, 17), (7, 64, 31),
    (13, 15, 64), (14, 32, 33), (15, 48, 7), (16, 7, 100), (17, 100, 2), (28, 65, 13), (31, 97, 37),
    (0, 8, 3), (8, 0, 3),
]

/// A product whose factors are not dense and whose result has space between its rows, in one of the ways that it can be
/// computed.
struct ProductBlock: CustomStringConvertible {
    let rows: Int
    let columns: Int
    /// Of each, in a's and b's elements.
    let depth: Int
    let aTransposed: Bool
    let transposed: Bool
    let bias: Bool
    let accumulates: Bool
    /// Whether factors are infinite, denormal or no numbers here and there.
    let special: Bool

    static let bPitch = 35

    var description: String {
        "\(rows)x\(columns)x\(depth) \(aTransposed) \(transposed) \(bias) \(accumulates)"
    }

    var aPitch: Int { (aTransposed ? rows : depth) + 3 }
    var aCount: Int { max((aTransposed ? depth : rows) * aPitch - 3, 0) }
    var bPanel: Int { depth * ProductBlock.bPitch + 3 }
    var bCount: Int { (columns + 31) / 32 * bPanel }
    var cPitch: Int { (transposed ? rows : columns) + 2 }
    var cCount: Int { max((transposed ? columns : rows) * cPitch - 2, 0) }
    var biasCount: Int { transposed ? rows : columns }

    func product(
        _ a: Guarded<Float>, _ b: Guarded<Float>, _ c: Guarded<Float>, bias start: Guarded<Float>
    ) -> esp_f32_product {
        unsafe esp_f32_product(
            a: a.pointer, a_row: aTransposed ? 1 : aPitch, a_depth: aTransposed ? aPitch : 1,
            b: b.pointer, b_pitch: ProductBlock.bPitch, b_panel: bPanel, c: c.pointer,
            c_pitch: cPitch, rows: rows, columns: columns, depth: depth,
            bias: bias ? UnsafePointer(start.pointer) : nil, accumulates: accumulates,
            transposed: transposed)
    }

    /// Extents and ways.
    static let all = productExtents.enumerated().flatMap { index, extents in
        [false, true].flatMap { aTransposed in
            [
                (false, false, false), (false, true, false), (false, false, true),
                (true, false, false), (true, true, false),
            ].map { transposed, bias, accumulates in
                ProductBlock(
                    rows: extents.0, columns: extents.1, depth: extents.2,
                    aTransposed: aTransposed, transposed: transposed, bias: bias,
                    accumulates: accumulates, special: index % 4 == 3)
            }
        }
    }
}

private func checkProduct(_ block: ProductBlock) {
    func values(_ count: Int, _ salt: Int) -> [Float] {
        block.special ? mixedNumbers(count, salt) : numbers(count, salt)
    }
    unsafe expectTwins("product \(block)") { kernels in
        let (a, b) = (Guarded(values(block.aCount, 1)), Guarded(values(block.bCount, 2)))
        let start = Guarded(values(block.biasCount, 3))
        let c = Guarded(values(block.cCount, 4))
        var p = unsafe block.product(a, b, c, bias: start)
        unsafe kernels.f32_product(&p)
        return c.values
    }
}

let productKernelChecks: [String: KernelCheck] = [
    "f32_product": {
        for block in ProductBlock.all { checkProduct(block) }
    },
    "f32_pack_panel": {
        for columns in [1, 2, 15, 16, 17, 31, 32] {
            for depth in [0, 1, 5, 15, 16, 17, 33, 100] {
                for (isTransposed, isRounded) in [
                    (false, false), (false, true), (true, false), (true, true),
                ] {
                    let pitch = (isTransposed ? depth : columns) + 5
                    let lines = isTransposed ? columns : depth
                    unsafe expectTwins("panel of \(depth)x\(columns) \(isTransposed)") { c in
                        let x = Guarded(mixedNumbers(max(lines * pitch - 5, 0)))
                        let y = Guarded<Float>(
                            7, count: max(depth * 32 - (columns > 16 ? 0 : 16), 0))
                        unsafe c.f32_pack_panel(
                            x.pointer, isTransposed ? 1 : pitch, isTransposed ? pitch : 1, depth,
                            columns, isRounded, y.pointer)
                        return y.values
                    }
                }
            }
        }
    },
    "f32_copy_rows": {
        for (rows, columns) in kernelMatrices {
            for isRounded in [false, true] {
                unsafe expectTwins("copy of \(rows)x\(columns)") { c in
                    let x = Guarded(mixedNumbers(max(rows * (columns + 3) - 3, 0)))
                    let y = Guarded<Float>(7, count: max(rows * (columns + 2) - 2, 0))
                    unsafe c.f32_copy_rows(
                        x.pointer, columns + 3, rows, columns, isRounded, y.pointer, columns + 2)
                    return y.values
                }
            }
        }
        // Halfway cases to even, a carry into the exponent and beyond the largest.
        for isa in ISA.available {
            let bits: [(UInt32, UInt32)] = [
                (0x3F80_8000, 0x3F80_0000), (0x3F81_8000, 0x3F82_0000), (0x3F80_8001, 0x3F81_0000),
                (0x3FFF_FFFF, 0x4000_0000), (0x7F7F_FFFF, 0x7F80_0000), (0x8000_8000, 0x8000_0000),
            ]
            let x = Guarded(bits.map { Float(bitPattern: $0.0) })
            let y = Guarded<Float>(7, count: bits.count)
            unsafe kernels(isa).f32_copy_rows(
                x.pointer, bits.count, 1, bits.count, true, y.pointer, bits.count)
            #expect(y.values.map(\.bitPattern) == bits.map(\.1))
        }
    },
    "f32_dots": {
        for (rows, depth) in kernelMatrices {
            for bias in [false, true] {
                unsafe expectTwins("dots of \(rows)x\(depth)") { c in
                    let matrix = Guarded(numbers(max(rows * (depth + 3) - 3, 0)))
                    let (x, start) = (Guarded(numbers(depth, 1)), Guarded(numbers(rows, 2)))
                    let y = Guarded<Float>(7, count: rows)
                    unsafe c.f32_dots(
                        matrix.pointer, depth + 3, x.pointer,
                        bias ? UnsafePointer(start.pointer) : nil, rows, depth, y.pointer)
                    return y.values
                }
            }
        }
    },
]
