import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Linear: Differentiable {
    // A weight held as its live entries reads activations in blocks.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        var layouts = [Layout](repeating: .rowMajor, count: operands.count)
        if case .live = operands[1].layout {
            layouts[0] = .tokenBlocked64
            layouts[1] = operands[1].layout
        }
        return layouts
    }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (x, weight) = (inputs[0], inputs[1])
        if let pattern = SparseLinear.pattern(of: weight) {
            return SparseLinear.forward(
                x, weight, pattern, bias: inputs.count > 2 ? inputs[2] : nil, &context)
        }
        let (outputs, depth) = (weight.shape[0], weight.shape[1])
        let shape = Shape(x.shape.dropLast() + [outputs])
        var y = BLAS.product(
            x, weight, transposesB: true, rows: shape.dropLast().reduce(1, *), columns: outputs,
            depth: depth, shape: shape)
        if inputs.count > 2 { Kernels.addRow(inputs[2], to: &y) }
        context.keep(x, weight)
        return y
    }

    // dX = dY W, dW = dYᵀ X, db = column sums of dY.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        if let pattern = SparseLinear.pattern(of: weight) {
            return SparseLinear.gradients(upstream, saved, pattern)
        }
        let (outputs, depth) = (weight.shape[0], weight.shape[1])
        let rows = upstream.shape.dropLast().reduce(1, *)
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed[0] {
            result[0] = BLAS.product(
                upstream, weight, rows: rows, columns: depth, depth: outputs, shape: x.shape)
        }
        if saved.needed[1] {
            result[1] = BLAS.product(
                upstream, transposesA: true, x, rows: outputs, columns: depth, depth: rows,
                shape: weight.shape)
        }
        if saved.needed.count > 2, saved.needed[2] { result[2] = Kernels.columnSums(upstream) }
        return result
    }
}
