import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

/// A linear layer whose weight is held as its live entries, on activations in blocks of 64 tokens: forward, input gradient
/// and weight gradient touch live entries only.
enum SparseLinear {
    /// The pattern of a weight that is held so.
    static func pattern(of weight: Tensor) -> LivePattern? {
        guard case .live(let entries) = weight.layout else { return nil }
        guard let pattern = entries as? LivePattern else {
            fatalError("live weights without kernels")
        }
        return pattern
    }

    static func forward(
        _ x: Tensor, _ weight: Tensor, _ pattern: LivePattern, bias: Tensor?,
        activation: Op.Linear.Activation?, _ context: inout ForwardContext
    ) -> Tensor {
        let isRounded = context.precision == .bf16
        let live = isRounded ? Kernels.roundedToBF16(weight) : weight
        let weights = SparseWeights(flat(live), pattern)
        let x = isRounded ? Kernels.roundedToBF16(x) : x
        let shape = Shape(x.shape.dropLast() + [pattern.outputs])
        func tokens(_ blocks: Tensor) -> Tensor { blocks.viewed(shape, .tokenBlocked64) }
        context.keep(x, weight)
        switch activation {
        case nil:
            context.keep(weights.parts)
            return tokens(Kernels.sparseLinear(blocks(x), weights, bias: bias).z)
        case .relu:
            let y = tokens(Kernels.sparseLinear(blocks(x), weights, bias: bias, then: .relu).z)
            context.keep([y] + weights.parts)
            return y
        case .unary(.gelu):
            let (z, y) = Kernels.sparseLinear(blocks(x), weights, bias: bias, then: .gelu)
            context.keep([tokens(z)] + weights.parts)
            return tokens(y ?? z)
        case .unary(let function):
            let z = tokens(Kernels.sparseLinear(blocks(x), weights, bias: bias).z)
            let y = Kernels.unary(function.code, p: function.p, q: function.q, z)
            context.keep([esp_derives_from_result(function.code) ? y : z] + weights.parts)
            return y
        }
    }

    // The activation's gradient is written over the upstream one, and the input's added to what has arrived there, so
    // that neither takes a pass and memory of its own.
    static func gradients(
        _ arrived: inout Arrived, _ saved: Saved, _ pattern: LivePattern,
        activation: Op.Linear.Activation?
    ) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let parts = saved.tensors[(activation == nil ? 2 : 3)...]
        let weights = SparseWeights(parts: Array(parts), pattern)
        let tokens = arrived.upstream.shape.dropLast().reduce(1, *)
        let needsBias = saved.needed.count > 2 && saved.needed[2]
        var sums: Tensor?
        if case .unary(let function) = activation {
            sums = Kernels.unaryGradientInBlocks(
                function.code, p: function.p, q: function.q, saved: saved.tensors[2],
                upstream: &arrived.upstream, tokens: needsBias ? tokens : nil)
        } else if let activation {
            arrived.upstream = activation.gradient(saved.tensors[2], upstream: arrived.upstream)
        }
        let dz = arrived.upstream
        let factor = blocks(saved.precision == .bf16 ? Kernels.roundedToBF16(dz) : dz)
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed[0] {
            result[0] = inputGradient(factor, weights, &arrived.sum, x.shape)
        }
        if saved.needed[1] {
            result[1] = Kernels.sparseLinearWeightGradient(blocks(x), upstream: factor, pattern)
                .viewed(weight.shape, weight.layout)
        }
        if needsBias { result[2] = sums ?? Kernels.blockSums(blocks(dz), tokens: tokens).sums }
        return result
    }

    // Added to what has arrived where nobody else holds that.
    private static func inputGradient(
        _ factor: Tensor, _ weights: SparseWeights, _ arrived: inout Tensor?, _ shape: Shape
    ) -> Tensor {
        guard var sum = arrived.take() else {
            return Kernels.sparseLinearInputGradient(factor, weights)
                .viewed(shape, .tokenBlocked64)
        }
        guard sum.layout == .tokenBlocked64, sum.shape == shape, sum.isUnshared() else {
            arrived = sum
            return Kernels.sparseLinearInputGradient(factor, weights)
                .viewed(shape, .tokenBlocked64)
        }
        let blocked = blocks(consume sum)
        return Kernels.sparseLinearInputGradient(factor, weights, addedTo: consume blocked)
            .viewed(shape, .tokenBlocked64)
    }

    private static func flat(_ weight: Tensor) -> Tensor {
        weight.viewed([weight.count], .rowMajor)
    }

    /// [..., columns] -> [blocks, columns, 64]
    static func blocks(_ x: Tensor) -> Tensor {
        x.viewed([Layout.blocks(x.shape), x.shape.last ?? 1, Kernels.blockTokens], .rowMajor)
    }
}
