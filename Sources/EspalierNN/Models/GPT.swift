public import EspalierEngine
public import EspalierTensors

/// The decoder of GPT-2. Parameters are named as in transformers; theirs of the linear layers are [in, out], ours
/// [out, in] as everywhere.
///
/// Radford et al., "Language models are unsupervised multitask learners", 2019.
public struct GPT: Module {
    /// Its sizes.
    public let configuration: GPTConfiguration
    /// [vocabulary, hidden]
    public let words: Embedding
    /// [positions, hidden]
    public let positions: Embedding
    /// In order.
    public let layers: [GPTLayer]
    /// Behind the last layer.
    public let norm: LayerNorm

    /// A decoder with parameters drawn from `random`, each from a child of its own name.
    ///
    /// - Throws: `ArchitectureError` where its sizes are impossible.
    public init(
        _ configuration: GPTConfiguration, random: RandomStream
    ) throws(ArchitectureError) {
        try configuration.check()
        self.configuration = configuration
        words = Embedding(
            count: configuration.vocabulary, size: configuration.hidden,
            initializer: configuration.initializer, random: random.child("words"))
        positions = Embedding(
            count: configuration.positions, size: configuration.hidden,
            initializer: configuration.initializer, random: random.child("positions"))
        layers = (0..<configuration.layers).map {
            GPTLayer(configuration, random: random.child("layer\($0)"))
        }
        norm = LayerNorm(size: configuration.hidden, epsilon: configuration.epsilon)
    }

    /// The states behind the embeddings, behind each layer but the last, and behind the last norm. [B, L, hidden]
    public func callAsFunction(_ tokens: TokenBatch, on tape: Tape) -> [Value] {
        let places = positions.first(tokens.length, on: tape)
        var states = [(words(tokens.ids, on: tape) + places).dropout(configuration.dropout)]
        for layer in layers {
            states.append(
                tape.segment([states[states.count - 1]]) { layer($0[0], mask: tokens.mask) })
        }
        states[states.count - 1] = norm(states[states.count - 1])
        return states
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("wte", words)
        visitor.visit("wpe", positions)
        for (index, layer) in layers.enumerated() { visitor.visit("h.\(index)", layer) }
        visitor.visit("ln_f", norm)
    }

    /// Whether transformers stores the parameter of that name as [in, out].
    public static func isTransposed(_ name: String) -> Bool {
        ["c_attn.weight", "c_proj.weight", "c_fc.weight"].contains { name.hasSuffix($0) }
    }
}

/// One layer of a decoder: attention to what came before, then two linear layers, each behind a norm and added to what
/// went in. [B, L, hidden] -> [B, L, hidden]
public struct GPTLayer: Module {
    /// Before attention.
    public let attentionNorm: LayerNorm
    /// Queries, keys and values at once. [3 hidden, hidden]
    public let attention: Linear
    /// Of what the heads found. [hidden, hidden]
    public let projection: Linear
    /// Before the linear layers.
    public let outputNorm: LayerNorm
    /// [intermediate, hidden]
    public let intermediate: Linear
    /// [hidden, intermediate]
    public let output: Linear
    private let configuration: GPTConfiguration

    init(_ configuration: GPTConfiguration, random: RandomStream) {
        let hidden = configuration.hidden
        let wide = configuration.intermediate ?? 4 * hidden
        func linear(_ name: String, _ inputs: Int, _ outputs: Int, isLast: Bool = false) -> Linear {
            // What is added 2 layers times over begins with less, so that the sum keeps its size.
            let count = isLast ? Float(2 * max(configuration.layers, 1)).squareRoot() : 1
            return Linear(
                inputs: inputs, outputs: outputs,
                initializer: .normal(deviation: configuration.deviation / count),
                random: random.child(name))
        }
        attention = linear("attention", hidden, 3 * hidden)
        projection = linear("projection", hidden, hidden, isLast: true)
        intermediate = linear("intermediate", hidden, wide)
        output = linear("output", wide, hidden, isLast: true)
        attentionNorm = LayerNorm(size: hidden, epsilon: configuration.epsilon)
        outputNorm = LayerNorm(size: hidden, epsilon: configuration.epsilon)
        self.configuration = configuration
    }

    /// The states behind the layer; tokens look at those up to them where the mask [B, L] is 1.
    public func callAsFunction(_ x: Value, mask: Tensor?) -> Value {
        let hidden = configuration.hidden
        let parts = attention(attentionNorm(x)).split([hidden, hidden, hidden], axis: 2)
        let found = MultiHeadAttention.joined(
            queries: parts[0], keys: parts[1], values: parts[2], heads: configuration.heads,
            keyMask: mask, isCausal: true, dropout: configuration.dropout)
        let middle = x + projection(found).dropout(configuration.dropout)
        let wide = intermediate(outputNorm(middle), configuration.activation)
        return middle + output(wide).dropout(configuration.dropout)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("ln_1", attentionNorm)
        visitor.visit("attn.c_attn", attention)
        visitor.visit("attn.c_proj", projection)
        visitor.visit("ln_2", outputNorm)
        visitor.visit("mlp.c_fc", intermediate)
        visitor.visit("mlp.c_proj", output)
    }
}

/// A decoder that tells which token comes next. Its last weight is the table of tokens.
public struct GPTLanguageModel: Module {
    /// The decoder.
    public let transformer: GPT

    /// A language model with parameters drawn from `random`.
    ///
    /// - Throws: `ArchitectureError` where sizes are impossible.
    public init(
        _ configuration: GPTConfiguration, random: RandomStream
    ) throws(ArchitectureError) {
        transformer = try GPT(configuration, random: random.child("transformer"))
    }

    /// The logits of what comes behind each token. [B, L, vocabulary]
    public func callAsFunction(_ tokens: TokenBatch, on tape: Tape) -> Value {
        logits(of: transformer(tokens, on: tape)[transformer.layers.count])
    }

    /// The logits of the decoder's last states. [..., hidden] -> [..., vocabulary]
    public func logits(of states: Value) -> Value {
        states.linear(weight: states.tape.parameter(transformer.words.weight), bias: nil)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("transformer", transformer)
        visitor.visit("lm_head.weight", transformer.words.weight)
    }
}
