package import EspalierTensors

/// Which groups of weights are pruned together.
public enum SparsityPattern: Sendable, Hashable, CustomStringConvertible {
    /// Each weight by itself.
    case unstructured
    /// Blocks of outputs x inputs in the weight's own axes; for convolutions the inputs are channels of one tap.
    case block(outputs: Int, inputs: Int)

    public var description: String {
        switch self {
        case .unstructured: "unstructured"
        case .block(let outputs, let inputs): "\(outputs)x\(inputs) blocks"
        }
    }

    /// The grid of blocks over a weight read as [outputs, inputs of all taps], or nil where it does not divide.
    package func grid(over shape: Shape) -> BlockGrid? {
        guard case .block(let outputs, let inputs) = self else {
            let count = shape.elementCount
            return BlockGrid(rows: 1, columns: count, blockRows: 1, blockColumns: 1)
        }
        guard shape.rank >= 2, shape[0] % outputs == 0, shape[shape.rank - 1] % inputs == 0 else {
            return nil
        }
        let columns = shape.dropFirst().reduce(1, *)
        return BlockGrid(
            rows: shape[0] / outputs, columns: columns / inputs, blockRows: outputs,
            blockColumns: inputs)
    }
}

/// Equal blocks that cover a matrix.
package struct BlockGrid: Sendable, Hashable {
    /// Blocks from top to bottom.
    package let rows: Int
    /// Blocks from left to right.
    package let columns: Int
    package let blockRows: Int
    package let blockColumns: Int

    package var count: Int { rows * columns }
    package var blockSize: Int { blockRows * blockColumns }

    /// The block that entry `index` of the row-major matrix lies in.
    package func block(of index: Int) -> Int {
        let width = columns * blockColumns
        return index / width / blockRows * columns + index % width / blockColumns
    }
}
