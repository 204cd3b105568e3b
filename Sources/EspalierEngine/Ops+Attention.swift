import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Attention: Differentiable {
    private func rule(_ shapes: [Shape], _ precision: Precision) -> Kernels.Attention {
        Kernels.Attention(
            queries: shapes[0], keys: shapes[1], values: shapes[2], heads: heads,
            isCausal: isCausal, scale: scale, roundsFactors: precision == .bf16)
    }

    // Kept: the operands, the result and one number for each query of each head.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let mask = inputs.count > 3 ? inputs[3] : nil
        let (y, logSums) = Kernels.attention(
            rule(inputs.map(\.shape), context.precision), inputs[0], inputs[1], inputs[2],
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
            rule(saved.inputShapes, saved.precision), kept[0], kept[1], kept[2],
            keyMask: kept.count > 5 ? kept[5] : nil, result: kept[3], logSums: kept[4],
            upstream: upstream, needed: Array(saved.needed.prefix(3)))
        return gradients + (saved.needed.count > 3 ? [nil] : [])
    }
}
