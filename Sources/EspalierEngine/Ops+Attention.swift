import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Attention: Differentiable {
    private func rule(_ inputs: [Tensor], _ precision: Precision) -> Kernels.Attention {
        Kernels.Attention(
            queries: inputs[0].shape, keys: inputs[1].shape, values: inputs[2].shape, heads: heads,
            isCausal: isCausal, scale: scale, roundsFactors: precision == .bf16,
            layout: inputs[0].layout)
    }

    // Blocks stay blocks where each belongs to one sequence.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        let isBlocked =
            operands.prefix(3).allSatisfy { $0.layout == .tokenBlocked64 }
            && Kernels.Attention.fitsBlocks(operands[0].shape, operands[1].shape)
        return operands.indices.map { isBlocked && $0 < 3 ? .tokenBlocked64 : .rowMajor }
    }

    // Kept: the operands, the result and one number for each query of each head.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let mask = inputs.count > 3 ? inputs[3] : nil
        let (y, logSums) = Kernels.attention(
            rule(inputs, context.precision), inputs[0], inputs[1], inputs[2],
            keyMask: mask)
        context.keep(inputs[0], inputs[1], inputs[2], y, logSums)
        if let mask { context.keep(mask) }
        return y
    }

    // With P the probabilities: dV = Pᵀ dY, dS = P (dY Vᵀ - the sum of Y dY of each query), dQ = scale dS K and
    // dK = scale dSᵀ Q.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let kept = saved.tensors
        let gradients = Kernels.attentionGradients(
            rule(kept, saved.precision), kept[0], kept[1], kept[2],
            keyMask: kept.count > 5 ? kept[5] : nil, result: kept[3], logSums: kept[4],
            upstream: upstream, needed: Array(saved.needed.prefix(3)))
        return gradients + (saved.needed.count > 3 ? [nil] : [])
    }
}
