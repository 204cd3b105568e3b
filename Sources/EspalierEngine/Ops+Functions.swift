import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

/// Operands repeated to one shape; no copies where they have it already.
func broadcast(_ inputs: [Tensor]) -> [Tensor] {
    var shape = inputs[0].shape
    for input in inputs.dropFirst() { shape = shape.broadcast(with: input.shape) ?? shape }
    return inputs.map { $0.broadcast(to: shape) }
}

extension Op.Unary: ElementWise {
    var staysFinite: Bool { function.staysFinite }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let y = Kernels.unary(function.code, p: function.p, q: function.q, inputs[0])
        context.keep(esp_derives_from_result(function.code) ? y : inputs[0])
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [
            Kernels.unaryGradient(
                function.code, p: function.p, q: function.q, saved: saved.tensors[0],
                upstream: upstream)
        ]
    }
}

extension Op.Unary.Function {
    /// Whether result and derivative are finite for finite operands; a square's range is taken for endless, that of
    /// an exponential is not.
    var staysFinite: Bool {
        switch self {
        case .exp, .expm1, .log, .log1p, .sqrt, .rsqrt, .reciprocal, .power: false
        case .abs, .negate, .square, .sin, .cos, .tanh, .sigmoid, .erf, .gelu, .geluTanh, .silu,
            .hardSwish, .softplus, .elu, .leakyReLU, .clamp:
            true
        }
    }
}

extension Op.Binary: ElementWise {
    var staysFinite: Bool {
        switch function {
        case .divide, .power: false
        case .subtract, .multiply, .maximum, .minimum: true
        }
    }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        if function != .subtract { context.keep(inputs[0], inputs[1]) }
        return Kernels.binary(function.code, inputs[0], inputs[1])
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let gradients: [Tensor?]
        switch function {
        case .subtract:
            gradients = [upstream, saved.needed[1] ? Kernels.scale(upstream, by: -1) : nil]
        case .multiply:
            // The other operand is broadcast as in the forward.
            gradients = [0, 1].map { side in
                saved.needed[side]
                    ? Kernels.binary(function.code, upstream, saved.tensors[1 - side]) : nil
            }
        case .divide, .power, .maximum, .minimum:
            let operands = broadcast(saved.tensors)
            gradients = Kernels.binaryGradients(
                function.code, operands[0], operands[1], upstream: upstream, needed: saved.needed)
        }
        return zip(gradients, saved.inputShapes).map { gradient, shape in
            gradient.map { Kernels.sum($0, to: shape) }
        }
    }
}

extension Op.Select: ElementWise {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let operands = broadcast(inputs)
        context.keep(inputs[0])
        return Kernels.select(operands[0], operands[1], operands[2])
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let condition = saved.tensors[0].broadcast(to: upstream.shape)
        let zero = Tensor.zeros(upstream.shape)
        func gradient(_ index: Int, _ whole: @autoclosure () -> Tensor) -> Tensor? {
            saved.needed[index] ? Kernels.sum(whole(), to: saved.inputShapes[index]) : nil
        }
        return [
            nil, gradient(1, Kernels.select(condition, upstream, zero)),
            gradient(2, Kernels.select(condition, zero, upstream)),
        ]
    }
}

extension Op.Fill: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        context.keep(inputs[1])
        return fill(inputs[0], inputs[1], with: value)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [saved.needed[0] ? fill(upstream, saved.tensors[0], with: 0) : nil, nil]
    }

    private func fill(_ x: Tensor, _ mask: Tensor, with value: Float) -> Tensor {
        let filling = Tensor(repeating: value, shape: x.shape)
        return Kernels.select(mask.broadcast(to: x.shape), filling, x)
    }
}
