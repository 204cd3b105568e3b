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
        _ context: inout ForwardContext
    ) -> Tensor {
        let weights = SparseWeights(flat(weight), pattern)
        let rounded = context.precision == .bf16 ? Kernels.roundedToBF16(x) : x
        let z = Kernels.sparseLinear(blocks(rounded), weights, bias: bias).z
        context.keep(rounded, weight)
        context.keep(weights.parts)
        return z.viewed(Shape(x.shape.dropLast() + [pattern.outputs]), .tokenBlocked64)
    }

    static func gradients(
        _ upstream: Tensor, _ saved: Saved, _ pattern: LivePattern
    ) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let weights = SparseWeights(parts: Array(saved.tensors[2...]), pattern)
        let dy = blocks(
            saved.precision == .bf16 ? Kernels.roundedToBF16(upstream) : upstream)
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed[0] {
            result[0] = Kernels.sparseLinearInputGradient(dy, weights)
                .viewed(x.shape, .tokenBlocked64)
        }
        if saved.needed[1] {
            result[1] = Kernels.sparseLinearWeightGradient(blocks(x), upstream: dy, pattern)
                .viewed(weight.shape, weight.layout)
        }
        if saved.needed.count > 2, saved.needed[2] {
            result[2] = Kernels.columnSumsOfBlocks(blocks(upstream))
        }
        return result
    }

    private static func flat(_ weight: Tensor) -> Tensor {
        weight.viewed([weight.count], .rowMajor)
    }

    /// [..., columns] -> [blocks, columns, 64]
    private static func blocks(_ x: Tensor) -> Tensor {
        x.viewed([Layout.blocks(x.shape), x.shape.last ?? 1, Kernels.blockTokens], .rowMajor)
    }
}
