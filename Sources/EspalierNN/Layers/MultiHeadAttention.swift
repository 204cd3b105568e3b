public import EspalierEngine
public import EspalierTensors

/// Attention in several heads at once: queries, keys and values are linear functions of their inputs, each head attends
/// with its part of them, and the heads' results go through one more.
///
/// Vaswani et al., "Attention is all you need", NeurIPS 2017.
public struct MultiHeadAttention: Module {
    /// [size, size]
    public let query: Linear
    /// [size, memorySize]
    public let key: Linear
    /// [size, memorySize]
    public let value: Linear
    /// [size, size]
    public let output: Linear
    /// They share the size.
    public let heads: Int
    /// Of the probabilities.
    public let dropout: Float

    /// A layer with weights drawn from `random`; `memorySize` is that of what is attended to, where it differs.
    ///
    /// - Precondition: the heads divide the size.
    public init(
        size: Int, heads: Int, memorySize: Int? = nil, bias: Bool = true, dropout: Float = 0,
        initializer: Initializer = .uniform, random: RandomStream
    ) {
        require(heads > 0 && size % heads == 0, "\(heads) heads of \(size)")
        func linear(_ inputs: Int, _ name: String) -> Linear {
            Linear(
                inputs: inputs, outputs: size, bias: bias, initializer: initializer,
                random: random.child(name))
        }
        query = linear(size, "query")
        key = linear(memorySize ?? size, "key")
        value = linear(memorySize ?? size, "value")
        output = linear(size, "output")
        self.heads = heads
        self.dropout = dropout
    }

    /// x attends to itself, or to a memory, without the probabilities ever being held.
    /// [B, Lq, size], [B, Lk, memorySize] -> [B, Lq, size]
    ///
    /// `keyMask` [B, Lk] is 1 for places that count, else 0; with `isCausal` place i sees places up to i. A place that
    /// sees none gets the output of zeros.
    public func callAsFunction(
        _ x: Value, to memory: Value? = nil, keyMask: Tensor? = nil, isCausal: Bool = false
    ) -> Value {
        let memory = memory ?? x
        return output(
            MultiHeadAttention.joined(
                queries: query(x), keys: key(memory), values: value(memory), heads: heads,
                keyMask: keyMask, isCausal: isCausal, dropout: dropout))
    }

    /// What the heads find, side by side. [B, Lq, size], [B, Lk, size], [B, Lk, size] -> [B, Lq, size]
    static func joined(
        queries: Value, keys: Value, values: Value, heads: Int, keyMask: Tensor?, isCausal: Bool,
        dropout: Float
    ) -> Value {
        // Probabilities that are dropped must be there to be dropped.
        guard dropout > 0, queries.tape.mode == .training else {
            return queries.attention(
                keys: keys, values: values, heads: heads, keyMask: keyMask, isCausal: isCausal)
        }
        return attend(
            queries: queries, keys: keys, values: values, heads: heads, keyMask: keyMask,
            isCausal: isCausal, dropout: dropout
        ).joined
    }

    /// x attends to itself, or to a memory, with the probabilities. [B, Lq, size], [B, Lk, memorySize] -> [B, Lq, size]
    ///
    /// `keyMask` [B, Lk] is 1 for places that count, else 0; with `isCausal` place i sees places up to i. The
    /// probabilities are [B, heads, Lq, Lk].
    public func attend(
        _ x: Value, to memory: Value? = nil, keyMask: Tensor? = nil, isCausal: Bool = false
    ) -> (result: Value, probabilities: Value) {
        let memory = memory ?? x
        let (joined, probabilities) = MultiHeadAttention.attend(
            queries: query(x), keys: key(memory), values: value(memory), heads: heads,
            keyMask: keyMask, isCausal: isCausal, dropout: dropout)
        return (output(joined), probabilities)
    }

    /// What the heads find, side by side. [B, Lq, size], [B, Lk, size], [B, Lk, size] -> [B, Lq, size]
    static func attend(
        queries: Value, keys: Value, values: Value, heads: Int, keyMask: Tensor?, isCausal: Bool,
        dropout: Float
    ) -> (joined: Value, probabilities: Value) {
        let mask = keyMask.map { $0.reshaped(to: [$0.shape[0], 1, 1, $0.shape[1]]) }
        let (result, probabilities) = queries.splitHeads(heads).attention(
            keys: keys.splitHeads(heads), values: values.splitHeads(heads), keyMask: mask,
            isCausal: isCausal, dropout: dropout)
        return (result.joinedHeads(), probabilities)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("query", query)
        visitor.visit("key", key)
        visitor.visit("value", value)
        visitor.visit("output", output)
    }
}
