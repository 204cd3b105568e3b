import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.MatMul: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        context.keep(inputs[0], inputs[1])
        return BLAS.batched(inputs[0], transposesA, inputs[1], transposesB)
    }

    // With C = A B: dA = dC Bᵀ and dB = Aᵀ dC; an operand that is read transposed gets the transpose of its gradient,
    // which is the product the other way round. What was broadcast gets the sum.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (a, b) = (saved.tensors[0], saved.tensors[1])
        var result: [Tensor?] = [nil, nil]
        if saved.needed[0] {
            let da =
                transposesA
                ? BLAS.batched(b, transposesB, upstream, true)
                : BLAS.batched(upstream, false, b, !transposesB)
            result[0] = Kernels.sum(da, to: a.shape)
        }
        if saved.needed[1] {
            if b.shape.rank == 2, a.shape.rank > 2, !transposesA {
                // One matrix for the whole batch: the sum over it is part of the product.
                let rows = upstream.shape.dropLast().reduce(1, *)
                func flat(_ x: Tensor) -> Tensor {
                    x.reshaped(to: [rows, x.shape[x.shape.rank - 1]])
                }
                result[1] =
                    transposesB
                    ? BLAS.batched(flat(upstream), true, flat(a), false)
                    : BLAS.batched(flat(a), true, flat(upstream), false)
            } else {
                let db =
                    transposesB
                    ? BLAS.batched(upstream, true, a, transposesA)
                    : BLAS.batched(a, !transposesA, upstream, false)
                result[1] = Kernels.sum(db, to: b.shape)
            }
        }
        return result
    }
}

extension BLAS {
    /// The products of the matrices in the last two axes, those before broadcast. [..., m, k], [..., k, n]
    ///
    /// All tiles of all products are shared out together.
    static func batched(
        _ a: Tensor, _ transposesA: Bool, _ b: Tensor, _ transposesB: Bool
    ) -> Tensor {
        let (rows, depth) = Op.MatMul.matrix(a.shape, isTransposed: transposesA)
        let columns = Op.MatMul.matrix(b.shape, isTransposed: transposesB).columns
        let (first, second) = (Shape(a.shape.dropLast(2)), Shape(b.shape.dropLast(2)))
        guard let batch = first.broadcast(with: second) else {
            fatalError("matmul: \(a.shape) does not fit \(b.shape)")
        }
        let shape = Shape(batch + [rows, columns])
        // One matrix on the right: the batch is more rows.
        if second.rank == 0, first.rank > 0, !transposesA {
            return product(
                a, b, transposesB: transposesB, rows: shape.dropLast().reduce(1, *),
                columns: columns, depth: depth, shape: shape)
        }
        let placesA = first.positions(in: batch)
        let placesB = second.positions(in: batch)
        let grid = TileGrid(rows: rows, columns: columns, depth: depth)
        let (pitchA, pitchB) = (transposesA ? rows : depth, transposesB ? depth : columns)
        return unsafe Tensor(shape) { result in
            unsafe reading(a, b) { a, b in
                ThreadPool.shared.forEachChunk(placesA.count * grid.count) { index in
                    let (matrix, tile) = (index / grid.count, grid.tile(index % grid.count))
                    let left = unsafe Operand(
                        a + placesA[matrix] * rows * depth, pitch: pitchA, transposed: transposesA)
                    let right = unsafe Operand(
                        b + placesB[matrix] * depth * columns, pitch: pitchB,
                        transposed: transposesB)
                    let corner =
                        (matrix * rows + tile.rows.lowerBound) * columns + tile.columns.lowerBound
                    unsafe multiply(
                        left.from(row: tile.rows.lowerBound),
                        right.from(column: tile.columns.lowerBound), into: result + corner,
                        pitch: columns, rows: tile.rows.count, columns: tile.columns.count,
                        depth: depth)
                }
            }
        }
    }
}

extension Shape {
    /// Which element of this shape each element of a shape that it is broadcast to is.
    fileprivate func positions(in target: Shape) -> [Int] {
        guard let strides = broadcastStrides(to: target) else {
            fatalError("\(self) is not broadcast to \(target)")
        }
        var result = [0]
        for (extent, stride) in zip(target, strides) {
            result = result.flatMap { first in (0..<extent).map { first + $0 * stride } }
        }
        return result
    }
}
