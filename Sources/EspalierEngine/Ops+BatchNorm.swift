import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.BatchNorm: Differentiable {
    // y = x a + (bias - mean a) with a = weight / sqrt(variance + epsilon).
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let x = inputs[0]
        let channels = x.shape[x.shape.rank - 1]
        let rows = channels == 0 ? 0 : x.count / channels
        let (mean, variance): (Tensor, Tensor)
        if let moments {
            (mean, variance) = (moments.mean, moments.variance)
        } else {
            (mean, variance) = Kernels.columnMoments(x)
            let unbiased = Float(rows) / Float(max(rows - 1, 1))
            context.moments = Moments(mean: mean, variance: Kernels.scale(variance, by: unbiased))
        }
        let inverse = variance.map { 1 / ($0 + epsilon).squareRoot() }
        let scale = inputs.count > 1 ? Kernels.multiply(inverse, inputs[1]) : inverse
        var shift = Kernels.scale(Kernels.multiply(mean, scale), by: -1)
        if inputs.count > 2 { shift = Kernels.add(shift, inputs[2]) }
        context.keep(x, mean, inverse, scale)
        return Kernels.columnAffine(x, scale: scale, shift: shift)
    }

    // With n rows, s = sum dy, p = sum dy (x - mean) and r = 1 / sqrt(variance + epsilon):
    // dweight = p r, dbias = s, and in training dx = a (dy - s / n - (x - mean) r² p / n), else a dy.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, mean, inverse, scale) = (
            saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3]
        )
        let rows = Float(max(x.count / max(mean.count, 1), 1))
        let sums = Kernels.columnSums(upstream)
        let products = Kernels.columnProducts(upstream, x, mean: mean)
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed.count > 1 { result[1] = Kernels.multiply(products, inverse) }
        if saved.needed.count > 2 { result[2] = sums }
        guard saved.needed[0] else { return result }
        if moments != nil {
            let zero = Tensor.zeros(mean.shape)
            result[0] = Kernels.columnAffine(upstream, scale: scale, shift: zero)
            return result
        }
        let square = Kernels.multiply(inverse, inverse)
        let slope = Kernels.scale(
            Kernels.multiply(Kernels.multiply(scale, square), products), by: -1 / rows)
        let level = Kernels.add(
            Kernels.scale(Kernels.multiply(scale, sums), by: -1 / rows),
            Kernels.scale(Kernels.multiply(slope, mean), by: -1))
        result[0] = Kernels.columnAffine(upstream, times: scale, x, times: slope, shift: level)
        return result
    }
}

extension Tensor {
    /// A small tensor with a function applied to each element.
    func map(_ transform: (Float) -> Float) -> Tensor {
        Tensor(elements.map(transform), shape: shape)
    }
}
