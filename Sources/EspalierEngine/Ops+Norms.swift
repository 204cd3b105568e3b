import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.LayerNorm: Differentiable {
    func layouts(reading operands: [Tensor]) -> [Layout] { layouts(operands, terms: 1) }

    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        forward(inputs[0], residual: nil, Array(inputs.dropFirst()), &context)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        gradients(upstream, saved, needsInput: saved.needed[0], Array(saved.needed.dropFirst()))
    }

    // One term in blocks takes the other with it. Without an epsilon what fills up the last block would not stay finite.
    fileprivate func layouts(_ operands: [Tensor], terms: Int) -> [Layout] {
        var layouts = [Layout](repeating: .rowMajor, count: operands.count)
        let isBlocked = operands[..<terms].contains { $0.layout == .tokenBlocked64 }
        if isBlocked, axisCount == 1, epsilon > 0 {
            for term in 0..<terms { layouts[term] = .tokenBlocked64 }
        }
        return layouts
    }

    // Kept: the normalized rows, one over the deviation of each, and the weight.
    fileprivate func forward(
        _ x: Tensor, residual: Tensor?, _ affine: [Tensor], _ context: inout ForwardContext
    ) -> Tensor {
        let (scale, shift) = (affine.first, affine.count > 1 ? affine[1] : nil)
        let isBlocked = x.layout == .tokenBlocked64
        let (result, normal, inverse) =
            isBlocked
            ? Kernels.normalizeBlocks(
                SparseLinear.blocks(x), residual: residual.map(SparseLinear.blocks), scale: scale,
                shift: shift, isCentred: isCentred, epsilon: epsilon,
                keepsNormal: context.isRecording)
            : Kernels.layerNorm(
                x, residual: residual, scale: scale, shift: shift, axisCount: axisCount,
                isCentred: isCentred, epsilon: epsilon, keepsNormal: context.isRecording)
        if let normal {
            context.keep(normal, inverse)
            if let scale { context.keep(scale) }
        }
        return isBlocked ? result.viewed(x.shape, .tokenBlocked64) : result
    }

    // With n = (x - mean) r: dweight = sum dy n, dbias = sum dy, and with g = dy weight
    // dx = r (g - mean(g) - n mean(g n)).
    fileprivate func gradients(
        _ upstream: Tensor, _ saved: Saved, needsInput: Bool, _ needsAffine: [Bool]
    ) -> [Tensor?] {
        let (normal, inverse) = (saved.tensors[0], saved.tensors[1])
        let weight = saved.tensors.count > 2 ? saved.tensors[2] : nil
        let needsScale = needsAffine.first ?? false
        let needsShift = needsAffine.count > 1 && needsAffine[1]
        if upstream.layout == .tokenBlocked64 {
            let (dx, scale, shift) = Kernels.normalizeBlocksGradients(
                normal: normal, inverse: inverse, scale: weight,
                upstream: SparseLinear.blocks(upstream), isCentred: isCentred,
                needsInput: needsInput, needsScale: needsScale, needsShift: needsShift)
            return [dx?.viewed(upstream.shape, .tokenBlocked64)]
                + [scale, shift].prefix(needsAffine.count)
        }
        let (dx, scale, shift) = Kernels.layerNormGradients(
            normal: normal, inverse: inverse, scale: weight, upstream: upstream,
            isCentred: isCentred, needsInput: needsInput, needsScale: needsScale,
            needsShift: needsShift)
        let shape = Shape(upstream.shape.suffix(axisCount))
        return [dx] + zip([scale, shift], needsAffine).map { sums, _ in sums?.reshaped(to: shape) }
    }
}

extension Op.ResidualNorm: Differentiable {
    func layouts(reading operands: [Tensor]) -> [Layout] { norm.layouts(operands, terms: 2) }

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
