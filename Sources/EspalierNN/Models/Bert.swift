public import EspalierEngine
public import EspalierTensors

/// The encoder of BERT, with or without its pooler. Parameters are named as in transformers.
///
/// Devlin et al., "BERT: pre-training of deep bidirectional transformers", NAACL 2019.
public struct Bert: Module {
    /// Its sizes.
    public let configuration: BertConfiguration
    /// What makes features of ids.
    public let embeddings: BertEmbeddings
    /// In order.
    public let layers: [BertLayer]
    /// [hidden, hidden], on the first token's state.
    public let pooler: Linear?

    /// What an encoder gives.
    public struct Output {
        /// Behind the embeddings and behind each layer. [B, L, hidden]
        public let hiddenStates: [Value]
        /// tanh of a linear function of the first token's last state; nil without a pooler. [B, hidden]
        public let pooled: Value?
        /// Behind the last layer. [B, L, hidden]
        public var last: Value { hiddenStates[hiddenStates.count - 1] }
    }

    /// An encoder with parameters drawn from `random`, each from a child of its own name.
    ///
    /// - Throws: `ArchitectureError` where its sizes are impossible.
    public init(
        _ configuration: BertConfiguration, hasPooler: Bool = true, random: RandomStream
    ) throws(ArchitectureError) {
        try configuration.check()
        self.configuration = configuration
        embeddings = BertEmbeddings(configuration, random: random.child("embeddings"))
        layers = (0..<configuration.layers).map {
            BertLayer(configuration, random: random.child("layer\($0)"))
        }
        let hidden = configuration.hidden
        pooler =
            hasPooler
            ? Linear(
                inputs: hidden, outputs: hidden, initializer: configuration.initializer,
                random: random.child("pooler")) : nil
    }

    /// The hidden states of tokens.
    public func callAsFunction(_ tokens: TokenBatch, on tape: Tape) -> Output {
        var states = [embeddings(tokens, on: tape)]
        for layer in layers {
            states.append(
                tape.segment([states[states.count - 1]]) { layer($0[0], mask: tokens.mask) })
        }
        let last = states[states.count - 1]
        let pooled = pooler.map { pooler in
            let first = last.sliced(axis: 1, from: 0, to: 1)
                .reshaped(to: [last.shape[0], last.shape[2]])
            return pooler(first, .tanh)
        }
        return Output(hiddenStates: states, pooled: pooled)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("embeddings", embeddings)
        for (index, layer) in layers.enumerated() { visitor.visit("encoder.layer.\(index)", layer) }
        if let pooler { visitor.visit("pooler.dense", pooler) }
    }
}

extension BertConfiguration {
    var initializer: Initializer { .normal(deviation: deviation) }
}

/// The sum of a token's, its place's and its part's features, normalized. [B, L] -> [B, L, hidden]
public struct BertEmbeddings: Module {
    /// [vocabulary, hidden]
    public let words: Embedding
    /// [positions, hidden]
    public let positions: Embedding
    /// [types, hidden]
    public let types: Embedding
    /// Of their sum.
    public let norm: LayerNorm
    /// Of the norm's result.
    public let dropout: Float

    init(_ configuration: BertConfiguration, random: RandomStream) {
        func table(_ name: String, _ count: Int, frozen: Int32? = nil) -> Embedding {
            Embedding(
                count: count, size: configuration.hidden, frozen: frozen,
                initializer: configuration.initializer, random: random.child(name))
        }
        words = table("words", configuration.vocabulary, frozen: configuration.padding)
        positions = table("positions", configuration.positions)
        types = table("types", configuration.types)
        norm = LayerNorm(size: configuration.hidden, epsilon: configuration.epsilon)
        dropout = configuration.dropout
    }

    /// The features of tokens.
    public func callAsFunction(_ tokens: TokenBatch, on tape: Tape) -> Value {
        let places = positions.first(tokens.length, on: tape)
        // Where all tokens are of one type its row is added to the few places, not to all tokens.
        guard let ids = tokens.types else {
            return norm(words(tokens.ids, on: tape), adding: places + types.first(1, on: tape))
                .dropout(dropout)
        }
        return norm(words(tokens.ids, on: tape) + types(ids, on: tape), adding: places)
            .dropout(dropout)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("word_embeddings", words)
        visitor.visit("position_embeddings", positions)
        visitor.visit("token_type_embeddings", types)
        visitor.visit("LayerNorm", norm)
    }
}

/// One layer of an encoder: attention, then two linear layers, each added to what went in and normalized.
/// [B, L, hidden] -> [B, L, hidden]
public struct BertLayer: Module {
    /// Of every token to every token.
    public let attention: MultiHeadAttention
    /// Behind attention.
    public let attentionNorm: LayerNorm
    /// [intermediate, hidden]
    public let intermediate: Linear
    /// [hidden, intermediate]
    public let output: Linear
    /// Behind the linear layers.
    public let outputNorm: LayerNorm
    /// Between the linear layers.
    public let activation: ActivationFunction
    /// Of what is added.
    public let dropout: Float

    init(_ configuration: BertConfiguration, random: RandomStream) {
        let hidden = configuration.hidden
        attention = MultiHeadAttention(
            size: hidden, heads: configuration.heads, dropout: configuration.attentionDropout,
            initializer: configuration.initializer, random: random.child("attention"))
        intermediate = Linear(
            inputs: hidden, outputs: configuration.intermediate,
            initializer: configuration.initializer, random: random.child("intermediate"))
        output = Linear(
            inputs: configuration.intermediate, outputs: hidden,
            initializer: configuration.initializer, random: random.child("output"))
        attentionNorm = LayerNorm(size: hidden, epsilon: configuration.epsilon)
        outputNorm = LayerNorm(size: hidden, epsilon: configuration.epsilon)
        activation = configuration.activation
        dropout = configuration.dropout
    }

    /// The states behind the layer; tokens look only at those where the mask [B, L] is 1.
    public func callAsFunction(_ x: Value, mask: Tensor?) -> Value {
        let found = attention(x, keyMask: mask)
        let middle = attentionNorm(found.dropout(dropout), adding: x)
        let wide = intermediate(middle, activation)
        return outputNorm(output(wide).dropout(dropout), adding: middle)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("attention.self.query", attention.query)
        visitor.visit("attention.self.key", attention.key)
        visitor.visit("attention.self.value", attention.value)
        visitor.visit("attention.output.dense", attention.output)
        visitor.visit("attention.output.LayerNorm", attentionNorm)
        visitor.visit("intermediate.dense", intermediate)
        visitor.visit("output.dense", output)
        visitor.visit("output.LayerNorm", outputNorm)
    }
}
