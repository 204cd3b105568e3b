import CEspalierKernels
package import EspalierTensors

/// The live entries of a locked mask over a weight [outputs, inputs], in the orders that sparse float kernels walk.
///
/// The values of a weight, its gradients and its optimizer state are flat tensors [count] in canonical order: the
/// live positions as they come in the row-major weight. What the kernels read (`SparseWeights`) is made from that
/// once a step, in an order that is nobody else's business.
package final class LivePattern: LiveWeights {
    /// How live entries lie together; outputs x inputs, aligned to multiples of four.
    package enum Block: String, Sendable, Hashable, CaseIterable {
        case single = "1x1"
        case fourByOne = "4x1"
        case oneByFour = "1x4"
        case fourByFour = "4x4"

        package var outputs: Int { self == .fourByOne || self == .fourByFour ? 4 : 1 }
        package var inputs: Int { self == .oneByFour || self == .fourByFour ? 4 : 1 }
    }

    package let block: Block
    /// Of the weight.
    package let shape: Shape
    package let outputs: Int
    package let inputs: Int
    /// How many entries live.
    package let count: Int
    /// The place of each live entry in the row-major weight, ascending.
    let positions: [Int32]
    /// The groups of outputs, or of inputs where blocks are 1x4.
    let main: SparseOrder
    /// The same entries in groups of inputs; nil for blocks, whose groups serve both ways.
    let transposed: SparseOrder?

    /// The live entries of a mask whose first axis is outputs; the others together are inputs.
    ///
    /// - Parameters:
    ///   - block: Nil for the largest blocks that the mask consists of. Blocks that are not all live are filled up
    ///     with zeros, which costs time and changes nothing.
    ///   - spans: The inputs, and for the transposed order the outputs, that stay in the nearest cache together.
    package init(_ mask: Mask, block: Block? = nil, spans: (Int, Int)? = nil) {
        shape = mask.shape
        outputs = mask.shape.first ?? 1
        inputs = outputs == 0 ? 0 : mask.shape.elementCount / outputs
        require(LivePattern.fits(outputs: outputs, inputs: inputs), "a sparse \(mask.shape)")
        var positions: [Int32] = []
        positions.reserveCapacity(mask.liveCount)
        for (word, bits) in mask.words.enumerated() {
            var left = bits
            while left != 0 {
                positions.append(Int32(word * 64 + left.trailingZeroBitCount))
                left &= left - 1
            }
        }
        self.positions = positions
        count = positions.count
        let chosen = block ?? LivePattern.largestBlock(mask, outputs: outputs, inputs: inputs)
        self.block = chosen
        let span = spans ?? (LivePattern.span(chosen), LivePattern.span(chosen))
        let entries = LiveEntries(positions, outputs: outputs, inputs: inputs)
        switch chosen {
        case .single:
            main = SparseOrder(singles: entries, span: span.0)
            transposed = SparseOrder(singles: entries.transposed, span: span.1)
        case .fourByOne, .fourByFour:
            main = SparseOrder(fours: entries, span: span.0)
            transposed = nil
        case .oneByFour:
            main = SparseOrder(fours: entries.transposed, span: span.0)
            transposed = nil
        }
    }

    /// Whether 16 bits count the rows and columns of a weight.
    package static func fits(outputs: Int, inputs: Int) -> Bool {
        outputs < ESP_NO_ROW && inputs < ESP_NO_ROW
    }

    /// The share of entries that are masked.
    package var sparsity: Double {
        outputs * inputs == 0 ? 0 : 1 - Double(count) / Double(outputs * inputs)
    }

    // 256 bytes each: what stays in a cache of 48 KiB, with room for the rows where those are many.
    private static func span(_ block: Block) -> Int { block == .single ? 128 : 192 }

    private static func largestBlock(_ mask: Mask, outputs: Int, inputs: Int) -> Block {
        for block in [Block.fourByFour, .fourByOne, .oneByFour]
        where consists(mask, of: block, outputs: outputs, inputs: inputs) {
            return block
        }
        return .single
    }

    /// Whether all blocks, those cut off at the edges too, are live or masked as a whole.
    private static func consists(
        _ mask: Mask, of block: Block, outputs: Int, inputs: Int
    ) -> Bool {
        let (tall, wide) = (block.outputs, block.inputs)
        for output in 0..<outputs {
            let first = output / tall * tall * inputs
            for input in 0..<inputs
            where mask.isLive(output * inputs + input)
                != mask.isLive(first + input / wide * wide)
            {
                return false
            }
        }
        return true
    }
}

// MARK: - Between dense and flat

extension LivePattern {
    package func gathered(_ dense: Tensor) -> Tensor {
        require(dense.shape == shape, "\(dense.shape) for live weights of \(shape)")
        return Kernels.permute(dense, by: positions).viewed(shape, .live(self))
    }

    package func scattered(_ live: Tensor) -> Tensor {
        require(live.layout == .live(self), "live weights of another pattern")
        var weight = Tensor.zeros(shape)
        unsafe weight.writing { weight in
            unsafe live.reading { live in
                for (index, position) in positions.enumerated() {
                    unsafe weight[Int(position)] = live[index]
                }
            }
        }
        return weight
    }
}

/// Where live entries are, row by row: what an order is made from.
struct LiveEntries {
    let rows: Int
    let columns: Int
    /// The entries of row r are starts[r] ..< starts[r + 1].
    let starts: [Int]
    let column: [Int]
    /// Their places in canonical order.
    let place: [Int32]

    init(_ positions: [Int32], outputs: Int, inputs: Int) {
        (rows, columns) = (outputs, inputs)
        var starts = [Int](repeating: 0, count: outputs + 1)
        for position in positions { starts[Int(position) / inputs + 1] += 1 }
        for row in 0..<outputs { starts[row + 1] += starts[row] }
        self.starts = starts
        column = positions.map { Int($0) % inputs }
        place = positions.indices.map { Int32($0) }
    }

    private init(rows: Int, columns: Int, starts: [Int], column: [Int], place: [Int32]) {
        (self.rows, self.columns, self.starts) = (rows, columns, starts)
        (self.column, self.place) = (column, place)
    }

    /// The same entries with rows and columns exchanged.
    var transposed: LiveEntries {
        var starts = [Int](repeating: 0, count: columns + 1)
        for c in column { starts[c + 1] += 1 }
        for c in 0..<columns { starts[c + 1] += starts[c] }
        var next = starts
        var row = [Int](repeating: 0, count: column.count)
        var moved = [Int32](repeating: 0, count: column.count)
        for r in 0..<rows {
            for entry in self.starts[r]..<self.starts[r + 1] {
                let at = next[column[entry]]
                next[column[entry]] += 1
                (row[at], moved[at]) = (r, place[entry])
            }
        }
        return LiveEntries(
            rows: columns, columns: rows, starts: starts, column: row, place: moved)
    }

    /// For each row, the entries in each span of columns: bounds[span][row] and bounds[span + 1][row].
    func bounds(span: Int) -> [[Int]] {
        var bounds = [Array(starts.dropLast())]
        for end in stride(from: span, to: max(columns, 1) + span, by: span) {
            let before = bounds[bounds.count - 1]
            bounds.append(
                (0..<rows).map { row in
                    var at = before[row]
                    while at < starts[row + 1], column[at] < end { at += 1 }
                    return at
                })
        }
        return bounds
    }
}
