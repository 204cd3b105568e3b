package import EspalierTensors

extension Op {
    /// Attention in several heads at once, whose parts lie side by side in the last axis: of each head,
    /// softmax(scale Q Kᵀ) V. Operands: queries [B, Lq, E], keys [B, Lk, E], values [B, Lk, Ev] and perhaps a mask of
    /// the keys [B, Lk], 1 for those that count and 0 for the others, without gradient. [B, Lq, Ev]
    ///
    /// The probabilities are never held: the gradient computes them again from one number a query (Dao et al.,
    /// "FlashAttention", NeurIPS 2022). A query that may look at no key has a result and gradients of 0.
    package struct Attention: Operation {
        /// They divide E and Ev.
        package let heads: Int
        /// Whether query i sees keys 0...i only.
        package let isCausal: Bool
        package let scale: Float

        package init(heads: Int, isCausal: Bool = false, scale: Float) {
            self.heads = heads
            self.isCausal = isCausal
            self.scale = scale
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let (q, k, v) = (inputs[0], inputs[1], inputs[2])
            guard q.rank == 3, k.rank == 3, v.rank == 3, q[0] == k[0], q[0] == v[0], k[1] == v[1],
                q[2] == k[2], heads > 0, q[2] % heads == 0, v[2] % heads == 0,
                inputs.count < 4 || inputs[3] == [k[0], k[1]]
            else {
                throw ShapeError("attention of \(heads) heads: operands \(inputs) do not fit")
            }
            return [q[0], q[1], v[2]]
        }
    }

    /// Layer norm of x + residual as one op. Operands: x and residual of one shape, and perhaps weight and bias.
    /// (See `LayerNorm`.) Only for training: an evaluation is recorded as the two ops that it stands for.
    package struct ResidualNorm: Operation {
        package let norm: LayerNorm

        package init(norm: LayerNorm) { self.norm = norm }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard inputs[0] == inputs[1] else {
                throw ShapeError("residual norm: \(inputs[0]) and \(inputs[1])")
            }
            return try norm.outputShape([inputs[0]] + inputs.dropFirst(2))
        }
    }
}
