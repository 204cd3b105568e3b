import EspalierGraph
public import EspalierTensors

// Attention, as one op and made of products and softmax.
extension Value {
    /// Scaled dot-product attention in several heads at once, whose parts lie side by side in the last axis, as one op
    /// that never holds the probabilities. [B, Lq, E], [B, Lk, E], [B, Lk, Ev] -> [B, Lq, Ev]
    ///
    /// Vaswani et al., "Attention is all you need", NeurIPS 2017; Dao et al., "FlashAttention", NeurIPS 2022. `keyMask`
    /// [B, Lk] is 1 for keys that count, else 0; `isCausal` keeps key j for query i where j <= i. The scale is one over
    /// the root of a head's size unless given. A query that may look at no key has a result and gradients of 0.
    public func attention(
        keys: Value, values: Value, heads: Int, keyMask: Tensor? = nil, isCausal: Bool = false,
        scale: Float? = nil
    ) -> Value {
        let depth = (shape.last ?? 0) / max(heads, 1)
        let op = Op.Attention(
            heads: heads, isCausal: isCausal,
            scale: scale ?? 1 / Float(max(depth, 1)).squareRoot())
        let mask = keyMask.map { tape.input($0) }
        return tape.apply(.attention(op), [self, keys, values] + [mask].compactMap(\.self)).value
    }

    /// Scaled dot-product attention of these queries: softmax(scale Q Kᵀ) V, with the probabilities.
    /// [..., Lq, D], [..., Lk, D], [..., Lk, Dv] -> [..., Lq, Dv], [..., Lq, Lk]
    ///
    /// Vaswani et al., "Attention is all you need", NeurIPS 2017. `keyMask` is 1 for keys that count, else 0, and can be
    /// broadcast to the probabilities; `isCausal` keeps key j for query i where j <= i. A query that may look at no key
    /// has NaN: there is nothing to divide by. The scale is 1 / sqrt(D) unless given. In training mode values are met with probabilities of which
    /// `dropout` are dropped; those returned are whole.
    public func attention(
        keys: Value, values: Value, keyMask: Tensor? = nil, isCausal: Bool = false,
        scale: Float? = nil, dropout: Float = 0
    ) -> (result: Value, probabilities: Value) {
        require(
            shape.rank >= 2 && keys.shape.rank == shape.rank && values.shape.rank == shape.rank
                && keys.shape[shape.rank - 2] == values.shape[shape.rank - 2]
                && keys.shape.last == shape.last,
            "attention of queries \(shape) to keys \(keys.shape) and values \(values.shape)")
        let depth = shape[shape.rank - 1]
        var scores = scaled(by: scale ?? 1 / Float(depth).squareRoot())
            .matMul(keys, otherTransposed: true)
        if let keyMask {
            let hidden = Tensor(keyMask.elements.map { $0 == 0 ? 1 : 0 }, shape: keyMask.shape)
            scores = scores.filled(with: -.infinity, where: tape.input(hidden))
        }
        if isCausal {
            let (queries, count) = (shape[shape.rank - 2], keys.shape[shape.rank - 2])
            var hidden: [Float] = []
            hidden.reserveCapacity(queries * count)
            for query in 0..<queries {
                for key in 0..<count { hidden.append(key > query ? 1 : 0) }
            }
            scores = scores.filled(
                with: -.infinity, where: tape.input(Tensor(hidden, shape: [queries, count])))
        }
        let probabilities = scores.softmax()
        return (probabilities.dropout(dropout).matMul(values), probabilities)
    }

    /// The last axis as heads of equal size. [B, L, E] -> [B, heads, L, E / heads]
    public func splitHeads(_ heads: Int) -> Value {
        require(
            shape.rank == 3 && heads > 0 && shape[2] % heads == 0, "\(heads) heads of \(shape)")
        return reshaped(to: [shape[0], shape[1], heads, shape[2] / heads])
            .permuted([0, 2, 1, 3])
    }

    /// The heads side by side again. [B, heads, L, D] -> [B, L, heads * D]
    public func joinedHeads() -> Value {
        require(shape.rank == 4, "heads of \(shape)")
        return permuted([0, 2, 1, 3]).reshaped(to: [shape[0], shape[2], shape[1] * shape[3]])
    }
}
