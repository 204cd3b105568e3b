package import EspalierTensors

extension Op {
    /// The product of matrices, the last two axes; those before are broadcast. Operands: a [..., m, k], b [..., k, n],
    /// or transposed.
    package struct MatMul: Operation {
        package let transposesA: Bool
        package let transposesB: Bool

        package init(transposesA: Bool = false, transposesB: Bool = false) {
            self.transposesA = transposesA
            self.transposesB = transposesB
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let (a, b) = (inputs[0], inputs[1])
            func fail() -> ShapeError {
                let (left, right) = (
                    transposesA ? " transposed" : "", transposesB ? " transposed" : ""
                )
                return ShapeError("matmul: \(a)\(left) does not fit \(b)\(right)")
            }
            guard a.rank >= 2, b.rank >= 2 else { throw fail() }
            let (rows, depth) = MatMul.matrix(a, isTransposed: transposesA)
            let (own, columns) = MatMul.matrix(b, isTransposed: transposesB)
            guard depth == own,
                let batch = Shape(a.dropLast(2)).broadcast(with: Shape(b.dropLast(2)))
            else { throw fail() }
            return Shape(batch + [rows, columns])
        }

        /// The extents of the matrices as the product reads them.
        package static func matrix(_ shape: Shape, isTransposed: Bool) -> (rows: Int, columns: Int)
        {
            let (first, second) = (shape[shape.rank - 2], shape[shape.rank - 1])
            return isTransposed ? (second, first) : (first, second)
        }
    }
}
