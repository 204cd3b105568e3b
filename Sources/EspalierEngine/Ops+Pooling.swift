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

    // One over the size of each window: the part inside the image, or inside image and padding.
    private func factors(over image: Shape) -> [Float] {
        guard let out = window.positions(over: Size2D(image[1], image[2])) else { return [] }
        let rows = (0..<out.height).map {
            extent(
                $0, window.stride.height, window.padding.top, window.padding.bottom,
                window.kernel.height, image[1])
        }
        let columns = (0..<out.width).map {
            extent(
                $0, window.stride.width, window.padding.left, window.padding.right,
                window.kernel.width, image[2])
        }
        return rows.flatMap { row in columns.map { 1 / Float(row * $0) } }
    }

    private func extent(
        _ position: Int, _ stride: Int, _ before: Int, _ after: Int, _ kernel: Int, _ size: Int
    ) -> Int {
        let start = position * stride - before
        let end = min(start + kernel, size + (countsPadding ? after : 0))
        return max(end - (countsPadding ? start : max(start, 0)), 1)
    }
}
