import CEspalierKernels

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A stream of random numbers in which every number has an address: no state, no order of drawing.
///
/// Philox 4x32-10 (Salmon et al., SC 2011), keyed by a seed. Children are derived by number or name, so
/// that every use (an epoch's order, one layer's dropout in one step) has a stream of its own and gives the
/// same numbers for any number of threads, and again after a resume.
public struct RandomStream: Sendable, Hashable {
    private let key: UInt64
    private let stream: UInt64

    /// The root stream of a seed.
    public init(seed: UInt64) {
        key = RandomStream.mix(seed)
        stream = 0
    }

    private init(key: UInt64, stream: UInt64) {
        self.key = key
        self.stream = stream
    }

    /// The stream of child number `index`.
    public func child(_ index: UInt64) -> RandomStream {
        RandomStream(
            key: key, stream: RandomStream.mix(stream &+ 0x9E37_79B9_7F4A_7C15 &* (index &+ 1)))
    }

    /// The stream of a named child.
    public func child(_ name: String) -> RandomStream {
        // FNV-1a, 64 bits
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return child(hash)
    }

    // The finalizer of SplitMix64.
    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// The first `count` words, each uniform over all 32-bit values.
    public func words(_ count: Int) -> [UInt32] {
        let blocks = (count + 3) / 4
        var result = unsafe [UInt32](unsafeUninitializedCapacity: blocks * 4) {
            buffer, initialized in
            unsafe KernelTable.current.u32_philox(key, stream, 0, buffer.baseAddress, blocks)
            initialized = blocks * 4
        }
        result.removeLast(blocks * 4 - count)
        return result
    }

    /// The first `count` numbers, uniform in 0..<1 in steps of 2^-24.
    public func uniform(_ count: Int) -> [Float] {
        words(count).map { Float($0 >> 8) * 0x1p-24 }
    }

    /// The first `count` numbers of the standard normal distribution (Box-Muller).
    public func normal(_ count: Int) -> [Float] {
        let pairs = (count + 1) / 2
        let words = words(2 * pairs)
        var result = [Float]()
        result.reserveCapacity(2 * pairs)
        for pair in 0..<pairs {
            let radius = (-2 * log((Double(words[2 * pair]) + 1) * 0x1p-32)).squareRoot()
            let angle = 2 * Double.pi * Double(words[2 * pair + 1]) * 0x1p-32
            result.append(Float(radius * cos(angle)))
            result.append(Float(radius * sin(angle)))
        }
        return Array(result.prefix(count))
    }

    /// The first `count` whole numbers, uniform in 0..<bound.
    public func integers(_ count: Int, below bound: Int) -> [Int] {
        require(bound > 0 && bound <= Int(UInt32.max), "the bound \(bound) is out of range")
        return words(count).map { Int((UInt64($0) * UInt64(bound)) >> 32) }
    }

    /// The numbers 0..<count in random order (Fisher-Yates).
    public func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        let words = words(count)
        for last in stride(from: count - 1, to: 0, by: -1) {
            order.swapAt(last, Int((UInt64(words[last]) * UInt64(last + 1)) >> 32))
        }
        return order
    }

    /// `count` values, each `value` with probability 1 - `dropped`, else +0.
    package func keepMask(_ shape: Shape, dropped: Float, value: Float) -> Tensor {
        let count = shape.elementCount
        let threshold = UInt32(min(Double(dropped) * 0x1p32, 0x1p32 - 1))
        let kernels = unsafe KernelTable.current
        return unsafe Tensor(shape) { target in
            // A word for each element in its own place first: a chunk's words stay in the cache.
            ThreadPool.shared.forEachRange(count / 4, grain: 4_096) { blocks in
                let (first, size) = (4 * blocks.lowerBound, 4 * blocks.count)
                unsafe UnsafeMutableRawPointer(target + first).withMemoryRebound(
                    to: UInt32.self, capacity: size
                ) { words in
                    unsafe kernels.u32_philox(
                        key, stream, UInt64(blocks.lowerBound), words, blocks.count)
                    unsafe kernels.f32_keep(words, threshold, value, target + first, size)
                }
            }
            // The last block of words may be longer than what is left.
            let (start, rest) = (count / 4 * 4, count % 4)
            guard rest > 0 else { return }
            var words: [UInt32] = [0, 0, 0, 0]
            unsafe kernels.u32_philox(key, stream, UInt64(count / 4), &words, 1)
            unsafe kernels.f32_keep(words, threshold, value, target + start, rest)
        }
    }
}
