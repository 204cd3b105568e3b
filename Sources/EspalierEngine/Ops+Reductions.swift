import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Reduce: Differentiable {
    // Kernels reduce rows: the axes that are reduced are moved behind the others first, where they are not there
    // already.
    private struct Arrangement {
        let order: [Int]
        let rows: Int
        let columns: Int
        let moved: Shape

        init(_ shape: Shape, _ reduced: [Int]) {
            let kept = shape.indices.filter { !reduced.contains($0) }
            order = kept + reduced
            rows = kept.reduce(1) { $0 * shape[$1] }
            columns = reduced.reduce(1) { $0 * shape[$1] }
            moved = Shape(order.map { shape[$0] })
        }

        func arrange(_ x: Tensor) -> Tensor {
            order == Array(order.indices) ? x : x.permuted(order)
        }

        func restore(_ x: Tensor) -> Tensor {
            guard order != Array(order.indices) else { return x }
            var inverse = order
            for (place, axis) in order.enumerated() { inverse[axis] = place }
            return x.permuted(inverse)
        }
    }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let shape = inputs[0].shape
        let reduced = normalizedAxes(shape)
        let result = Shape(
            shape.indices.compactMap { reduced.contains($0) ? (keepsAxes ? 1 : nil) : shape[$0] })
        // Leading axes are summed where they are.
        if kind == .sum || kind == .mean {
            var one = shape
            for axis in reduced { one[axis] = 1 }
            let sum = Kernels.sum(inputs[0], to: one).reshaped(to: result)
            if kind == .sum { return sum }
            let count = reduced.reduce(1) { $0 * shape[$1] }
            return Kernels.scale(sum, by: 1 / Float(count))
        }
        let arrangement = Arrangement(shape, reduced)
        let x = arrangement.arrange(inputs[0])
        let y = Kernels.reduceRows(
            kind.code, correction: correction, x, rows: arrangement.rows,
            columns: arrangement.columns)
        context.keep(x, y)
        return y.reshaped(to: result)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        let reduced = normalizedAxes(shape)
        if kind == .sum || kind == .mean {
            var one = shape
            for axis in reduced { one[axis] = 1 }
            let count = reduced.reduce(1) { $0 * shape[$1] }
            let each = kind == .sum ? upstream : Kernels.scale(upstream, by: 1 / Float(count))
            return [each.reshaped(to: one).broadcast(to: shape)]
        }
        let arrangement = Arrangement(shape, reduced)
        let gradient = Kernels.reduceRowsGradient(
            kind.code, correction: correction, saved.tensors[0], result: saved.tensors[1],
            upstream: upstream)
        return [arrangement.restore(gradient.reshaped(to: arrangement.moved))]
    }

    private func normalizedAxes(_ shape: Shape) -> [Int] {
        axes.map { $0.map { shape.normalized(axis: $0) }.sorted() } ?? Array(shape.indices)
    }
}

extension Op.CumulativeSum: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        Kernels.cumulativeSum(inputs[0], axis: inputs[0].shape.normalized(axis: axis))
    }

    // dx[i] is the sum of dy[i...].
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let axis = upstream.shape.normalized(axis: axis)
        return [Kernels.cumulativeSum(upstream, axis: axis, reversed: true)]
    }
}
