import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Resample: Differentiable {
    // Rows and columns are independent: one axis after the other.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let shape = inputs[0].shape
        let rows = Kernels.mix(inputs[0], axis: 1, taps(shape[1], to: size.height))
        return Kernels.mix(rows, axis: 2, taps(shape[2], to: size.width))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        let columns = Kernels.mixGradient(
            upstream: upstream, axis: 2, taps(shape[2], to: size.width), extent: shape[2])
        return [
            Kernels.mixGradient(
                upstream: columns, axis: 1, taps(shape[1], to: size.height), extent: shape[1])
        ]
    }
}
