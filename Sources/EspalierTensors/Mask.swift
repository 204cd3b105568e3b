/// Which entries of a weight live: one bit each.
///
/// A masked entry of the weight is exactly +0, and so is its optimizer state. A locked mask never changes.
public struct Mask: Sendable, Hashable {
    /// The shape of the weight.
    public let shape: Shape
    /// Bit i % 64 of word i / 64 is set where entry i lives. Bits beyond the last entry are clear.
    public let words: [UInt64]
    /// How many entries live.
    public let liveCount: Int

    /// A mask from its words.
    ///
    /// - Precondition: there are as many as the shape needs, and no bit is set beyond the last entry.
    public init(words: [UInt64], shape: Shape) {
        let count = shape.elementCount
        require(words.count == (count + 63) / 64, "\(words.count) mask words for \(shape)")
        require(
            count % 64 == 0 || words.last.map { $0 >> (count % 64) == 0 } ?? true,
            "a mask of \(shape) has bits beyond its last entry")
        self.shape = shape
        self.words = words
        liveCount = words.reduce(0) { $0 + $1.nonzeroBitCount }
    }

    /// A mask in which the entries where `isLive` holds live.
    public init(shape: Shape, where isLive: (Int) -> Bool) {
        let count = shape.elementCount
        var words = [UInt64](repeating: 0, count: (count + 63) / 64)
        for index in 0..<count where isLive(index) { words[index / 64] |= 1 << (index % 64) }
        self.init(words: words, shape: shape)
    }

    /// Whether entry `index`, in row-major order, lives.
    public func isLive(_ index: Int) -> Bool { words[index / 64] >> (index % 64) & 1 == 1 }

    /// The share of entries that are masked.
    public var sparsity: Double {
        shape.elementCount == 0 ? 0 : 1 - Double(liveCount) / Double(shape.elementCount)
    }

    /// A fingerprint of shape and bits (FNV-1a, 64 bits), to show that a pattern has not moved.
    public var fingerprint: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ word: UInt64) {
            for shift in stride(from: 0, to: 64, by: 8) {
                hash = (hash ^ (word >> shift & 0xFF)) &* 0x100_0000_01B3
            }
        }
        for extent in shape { add(UInt64(extent)) }
        for word in words { add(word) }
        return hash
    }
}
