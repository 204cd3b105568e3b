import EspalierTensors

/// The blocks of outputs x inputs that a mask is made of, over a weight read as [outputs, taps * inputs].
struct MaskBlocks: Hashable {
    /// Of a block.
    let outputs: Int
    let inputs: Int
    /// Blocks from top to bottom and from left to right.
    let rows: Int
    let columns: Int

    /// The sizes that files know, coarsest first.
    static let sizes = [(4, 4), (4, 1), (1, 4), (1, 1)]

    /// Blocks over a weight; nil where they do not divide it, or files do not know them.
    init?(outputs: Int, inputs: Int, over shape: Shape) {
        let height = shape.rank < 2 ? 1 : shape[0]
        let width = shape.rank < 2 ? shape.elementCount : shape.dropFirst().reduce(1, *)
        guard MaskBlocks.sizes.contains(where: { $0 == (outputs, inputs) }),
            height % outputs == 0, (shape.rank < 2 ? 1 : shape[shape.rank - 1]) % inputs == 0
        else { return nil }
        (self.outputs, self.inputs) = (outputs, inputs)
        (rows, columns) = (height / outputs, width / inputs)
    }

    /// The coarsest blocks that describe a mask exactly.
    init(_ mask: Mask) {
        for (outputs, inputs) in MaskBlocks.sizes {
            guard let blocks = MaskBlocks(outputs: outputs, inputs: inputs, over: mask.shape),
                (0..<blocks.count).allSatisfy({ block in
                    let first = mask.isLive(blocks.first(of: block))
                    return blocks.entries(of: block).allSatisfy { mask.isLive($0) == first }
                })
            else { continue }
            self = blocks
            return
        }
        fatalError("every mask is made of single entries")
    }

    var count: Int { rows * columns }
    /// Entries of a block.
    var size: Int { outputs * inputs }
    /// Bytes of a bit for each.
    var bitmapBytes: Int { (count + 7) / 8 }

    private func first(of block: Int) -> Int {
        block / columns * outputs * columns * inputs + block % columns * inputs
    }

    /// The entries of a block, its outputs one after the other.
    func entries(of block: Int) -> some Sequence<Int> {
        let (first, width, inputs) = (first(of: block), columns * inputs, inputs)
        return (0..<size).lazy.map { first + $0 / inputs * width + $0 % inputs }
    }

    /// Bit i % 8 of byte i / 8 is set where block i lives.
    func bitmap(_ mask: Mask) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: bitmapBytes)
        for block in 0..<count where mask.isLive(first(of: block)) {
            bytes[block / 8] |= 1 << UInt8(block % 8)
        }
        return bytes
    }

    /// The blocks that live, or nil where bits stand beyond the last.
    func live(_ bitmap: [UInt8]) -> [Int]? {
        guard bitmap.count == bitmapBytes,
            count % 8 == 0 || (bitmap.last ?? 0) >> UInt8(count % 8) == 0
        else { return nil }
        return (0..<count).filter { bitmap[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }
    }

    /// The mask in which these blocks live.
    func mask(live: [Int], shape: Shape) -> Mask {
        var words = [UInt64](repeating: 0, count: (shape.elementCount + 63) / 64)
        for block in live {
            for entry in entries(of: block) { words[entry / 64] |= 1 << UInt64(entry % 64) }
        }
        return Mask(words: words, shape: shape)
    }
}
