import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.MaxPool2D: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (y, indices) = Kernels.maxPool(inputs[0], esp_window(window, image: inputs[0].shape))
        context.keep(indices)
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        return [
            Kernels.maxPoolGradient(
                indices: saved.tensors[0], upstream: upstream, esp_window(window, image: shape),
                shape: shape)
        ]
    }
}

extension Op.AveragePool2D: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let shape = inputs[0].shape
        return Kernels.averagePool(
            inputs[0], esp_window(window, image: shape), factors: factors(over: shape))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        return [
            Kernels.averagePoolGradient(
                upstream: upstream, esp_window(window, image: shape), factors: factors(over: shape),
                shape: shape)
        ]
    }
}
