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

    /// A layer with weights drawn from `random`; `memorySize` is that of what is attended to, where it differs.
    ///
    /// - Precondition: the heads divide the size.
    public init(
        size: Int, heads: Int, memorySize: Int? = nil, bias: Bool = true, random: RandomStream
    ) {
        precondition(heads > 0 && size % heads == 0, "\(heads) heads of \(size)")
        func linear(_ inputs: Int, _ name: String) -> Linear {
            Linear(
                inputs: inputs, outputs: size, bias: bias, initializer: .uniform,
                random: random.child(name))
        }
        query = linear(size, "query")
        key = linear(memorySize ?? size, "key")
        value = linear(memorySize ?? size, "value")
        output = linear(size, "output")
        self.heads = heads
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
            query(x).attention(
                keys: key(memory), values: value(memory), heads: heads, keyMask: keyMask,
                isCausal: isCausal))
    }

    /// x attends to itself, or to a memory, with the probabilities. [B, Lq, size], [B, Lk, memorySize] -> [B, Lq, size]
    ///
    /// `keyMask` [B, Lk] is 1 for places that count, else 0; with `isCausal` place i sees places up to i. The
    /// probabilities are [B, heads, Lq, Lk].
    public func attend(
        _ x: Value, to memory: Value? = nil, keyMask: Tensor? = nil, isCausal: Bool = false
    ) -> (result: Value, probabilities: Value) {
        let memory = memory ?? x
        let mask = keyMask.map { $0.reshaped(to: [$0.shape[0], 1, 1, $0.shape[1]]) }
        let (joined, probabilities) = query(x).splitHeads(heads).attention(
            keys: key(memory).splitHeads(heads), values: value(memory).splitHeads(heads),
            keyMask: mask, isCausal: isCausal)
        return (output(joined.joinedHeads()), probabilities)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("query", query)
        visitor.visit("key", key)
        visitor.visit("value", value)
        visitor.visit("output", output)
    }
}
