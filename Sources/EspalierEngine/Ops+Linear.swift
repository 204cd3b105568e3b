import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Linear: Differentiable {
    // A weight held as its live entries reads activations in blocks, unless a function behind it could make what fills
    // up the last one infinite.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        var layouts = [Layout](repeating: .rowMajor, count: operands.count)
        let staysFinite = activation.map(\.staysFinite) ?? true
        if case .live = operands[1].layout, staysFinite || Layout.fillsBlocks(operands[0].shape) {
            layouts[0] = .tokenBlocked64
            layouts[1] = operands[1].layout
        }
        return layouts
    }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (x, weight) = (inputs[0], inputs[1])
        if let pattern = SparseLinear.pattern(of: weight) {
            return SparseLinear.forward(
                x, weight, pattern, bias: inputs.count > 2 ? inputs[2] : nil,
                activation: activation, &context)
        }
        let shape = Shape(x.shape.dropLast() + [weight.shape[0]])
        let (y, z) = Products.linear(
            x, weight, inputs.count > 2 ? inputs[2] : nil, activation: activation, shape: shape,
            precision: context.precision)
        context.keep(x, weight)
        if activation != nil { context.keep(z ?? y) }
        return y
    }

    func gradients(inPlace arrived: inout Arrived, _ saved: Saved) -> [Tensor?] {
        guard let pattern = SparseLinear.pattern(of: saved.tensors[1]) else {
            return gradients(arrived.upstream, saved)
        }
        return SparseLinear.gradients(&arrived, saved, pattern, activation: activation)
    }

    // With z = x Wᵀ + b: dX = dZ W, dW = dZᵀ X, db = column sums of dZ.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let (outputs, depth) = (weight.shape[0], weight.shape[1])
        let dz = activation.map { $0.gradient(saved.tensors[2], upstream: upstream) } ?? upstream
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed[0] {
            result[0] = Products.product(
                dz, weight, rows: dz.shape.dropLast().reduce(1, *), columns: depth, depth: outputs,
                shape: x.shape, precision: saved.precision)
        }
        let needsBias = saved.needed.count > 2 && saved.needed[2]
        if saved.needed[1] {
            let gradients = Products.weightGradient(
                dz, x, shape: weight.shape, needsBias: needsBias, precision: saved.precision)
            result[1] = gradients.weight
            if needsBias { result[2] = gradients.bias }
        } else if needsBias {
            result[2] = Kernels.columnSums(dz)
        }
        return result
    }
}
