import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Conv2D: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (x, weight) = (
            inputs[0].rounded(to: context.precision), inputs[1].rounded(to: context.precision)
        )
        let plan = ConvolutionPlan(self, x: x.shape, weight: weight.shape)
        let (result, which) = plan.forward(
            x, weight, inputs.count > 2 ? inputs[2] : nil, isTraining: context.isRecording)
        context.keep(x, weight)
        switch activation {
        case .none: break
        case .relu: context.keep(result)
        case .pooledReLU: which.map { context.keep($0) }
        }
        return result
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let plan = ConvolutionPlan(self, x: x.shape, weight: weight.shape)
        let result = saved.tensors.count > 2 ? saved.tensors[2] : nil
        let own = ConvolutionPlan.Upstream(dy: upstream, result: result)
        let rounded =
            saved.precision == .float
            ? nil
            : ConvolutionPlan.Upstream(dy: upstream.rounded(to: saved.precision), result: result)
        let (dx, dw, db) = plan.gradients(
            x, weight, own, rounded: rounded,
            ConvolutionPlan.Needs(
                x: saved.needed[0], weight: saved.needed[1],
                bias: saved.needed.count > 2 && saved.needed[2]))
        return saved.needed.count > 2 ? [dx, dw, db] : [dx, dw]
    }
}

extension Tensor {
    /// The factors of a product as a precision has them.
    fileprivate func rounded(to precision: Precision) -> Tensor {
        switch precision {
        case .float: self
        case .bf16: Kernels.floats(Kernels.halves(self, .bfloat16), .bfloat16, shape: shape)
        }
    }
}
