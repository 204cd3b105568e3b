import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.BatchNorm: Differentiable {
    // y = x a + (bias - mean a) with a = weight / sqrt(variance + epsilon).
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        require(moments == nil || !relu, "a norm with its ReLU is for training alone")
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
        let scale = inputs.count > 2 ? Kernels.multiply(inverse, inputs[1]) : inverse
        var shift = Kernels.scale(Kernels.multiply(mean, scale), by: -1)
        let factors = inputs.count - (addsOperand ? 1 : 0)
        if factors > 2 { shift = Kernels.add(shift, inputs[2]) }
        context.keep(x, mean, inverse, scale, shift)
        if relu {
            let more = addsOperand ? inputs.last : nil
            let y = Kernels.columnAffineReLU(x, scale: scale, shift: shift, adding: more)
            if addsOperand { context.keep(y) }
            return y
        }
        return Kernels.columnAffine(x, scale: scale, shift: shift)
    }

    // With n rows, s = sum dy, p = sum dy (x - mean) and r = 1 / sqrt(variance + epsilon):
    // dweight = p r, dbias = s, and in training dx = a (dy - s / n - (x - mean) r² p / n), else a dy. A ReLU's part of dy
    // is 0 where x a + shift is not above 0.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, mean, inverse, scale) = (
            saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3]
        )
        // With another operand only the result tells where ReLU has cut.
        let shift = relu && !addsOperand ? saved.tensors[4] : nil
        let upstream =
            addsOperand
            ? Kernels.reluGradient(output: saved.tensors[5], upstream: upstream) : upstream
        let rows = Float(max(x.count / max(mean.count, 1), 1))
        let (sums, products) = Kernels.normSums(
            upstream, x, mean: mean, mask: shift.map { (scale, $0) })
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if addsOperand { result[saved.needed.count - 1] = upstream }
        if saved.needed.count > 2 {
            result[1] = Kernels.multiply(products, inverse)
            result[2] = sums
        }
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
        result[0] = Kernels.normGradient(
            upstream, x, scale: scale, shift: shift, slope: slope, level: level)
        return result
    }
}

extension Tensor {
    /// A small tensor with a function applied to each element.
    func map(_ transform: (Float) -> Float) -> Tensor {
        Tensor(elements.map(transform), shape: shape)
    }
}
