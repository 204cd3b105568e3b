import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.LayerNorm: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        forward(inputs[0], residual: nil, Array(inputs.dropFirst()), &context)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        gradients(upstream, saved, needsInput: saved.needed[0], Array(saved.needed.dropFirst()))
    }

    // Kept: the normalized rows, one over the deviation of each, and the weight.
    fileprivate func forward(
        _ x: Tensor, residual: Tensor?, _ affine: [Tensor], _ context: inout ForwardContext
    ) -> Tensor {
        let (result, normal, inverse) = Kernels.layerNorm(
            x, residual: residual, scale: affine.first,
            shift: affine.count > 1 ? affine[1] : nil, axisCount: axisCount, isCentred: isCentred,
            epsilon: epsilon, keepsNormal: context.isRecording)
        if let normal {
            context.keep(normal, inverse)
            if let weight = affine.first { context.keep(weight) }
        }
        return result
    }

    // With n = (x - mean) r: dweight = sum dy n, dbias = sum dy, and with g = dy weight
    // dx = r (g - mean(g) - n mean(g n)).
    fileprivate func gradients(
        _ upstream: Tensor, _ saved: Saved, needsInput: Bool, _ needsAffine: [Bool]
    ) -> [Tensor?] {
        let (dx, scale, shift) = Kernels.layerNormGradients(
            normal: saved.tensors[0], inverse: saved.tensors[1],
            scale: saved.tensors.count > 2 ? saved.tensors[2] : nil, upstream: upstream,
            isCentred: isCentred, needsInput: needsInput,
            needsScale: needsAffine.first ?? false,
            needsShift: needsAffine.count > 1 && needsAffine[1])
        let shape = Shape(upstream.shape.suffix(axisCount))
        return [dx] + zip([scale, shift], needsAffine).map { sums, _ in sums?.reshaped(to: shape) }
    }
}

extension Op.ResidualNorm: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        norm.forward(inputs[0], residual: inputs[1], Array(inputs.dropFirst(2)), &context)
    }

    // One tensor is the gradient of both terms.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let parts = norm.gradients(
            upstream, saved, needsInput: saved.needed[0] || saved.needed[1],
            Array(saved.needed.dropFirst(2)))
        return [parts[0], parts[0]] + parts.dropFirst()
    }
}
