public import EspalierEngine
public import EspalierTensors

/// A BERT encoder that tells which class a sequence belongs to.
public struct BertClassifier: Module {
    /// With a pooler.
    public let bert: Bert
    /// [classes, hidden]
    public let classifier: Linear

    /// A classifier with parameters drawn from `random`.
    ///
    /// - Throws: `ArchitectureError` where sizes are impossible.
    public init(
        _ configuration: BertConfiguration, classes: Int, random: RandomStream
    ) throws(ArchitectureError) {
        guard (1...1 << 20).contains(classes) else { throw ArchitectureError("\(classes) classes") }
        bert = try Bert(configuration, random: random.child("bert"))
        classifier = Linear(
            inputs: configuration.hidden, outputs: classes,
            initializer: configuration.initializer, random: random.child("classifier"))
    }

    /// The logits of each sequence. [B, classes]
    public func callAsFunction(_ tokens: TokenBatch, on tape: Tape) -> Value {
        logits(of: bert(tokens, on: tape))
    }

    /// The logits of an encoder's output. [B, classes]
    public func logits(of output: Bert.Output) -> Value {
        guard let pooled = output.pooled else { fatalError("a classifier's encoder has a pooler") }
        return classifier(pooled.dropout(bert.configuration.dropout))
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("bert", bert)
        visitor.visit("classifier", classifier)
    }
}

/// A BERT encoder that tells which tokens stood where some are hidden. Its last weight is the table of tokens.
public struct BertMaskedLM: Module {
    /// Without a pooler.
    public let bert: Bert
    /// [hidden, hidden]
    public let transform: Linear
    /// Behind `transform` and its activation.
    public let norm: LayerNorm
    /// Of each token's logit. [vocabulary]
    public let bias: Parameter

    /// A language model with parameters drawn from `random`.
    ///
    /// - Throws: `ArchitectureError` where sizes are impossible.
    public init(
        _ configuration: BertConfiguration, random: RandomStream
    ) throws(ArchitectureError) {
        bert = try Bert(configuration, hasPooler: false, random: random.child("bert"))
        transform = Linear(
            inputs: configuration.hidden, outputs: configuration.hidden,
            initializer: configuration.initializer, random: random.child("transform"))
        norm = LayerNorm(size: configuration.hidden, epsilon: configuration.epsilon)
        bias = Parameter(.zeros([configuration.vocabulary]))
    }

    /// The logits of every token at every place, or at some places of the flattened batch.
    /// [B, L, vocabulary] or [places, vocabulary]
    public func callAsFunction(
        _ tokens: TokenBatch, at places: IndexTensor? = nil, on tape: Tape
    ) -> Value {
        logits(of: bert(tokens, on: tape), at: places)
    }

    /// The logits of an encoder's output.
    public func logits(of output: Bert.Output, at places: IndexTensor? = nil) -> Value {
        var states = output.last
        let tape = states.tape
        if let places {
            states = states.reshaped(to: [-1, states.shape[2]]).taken(axis: 0, places)
        }
        return norm(transform(states, bert.configuration.activation))
            .linear(
                weight: tape.parameter(bert.embeddings.words.weight), bias: tape.parameter(bias))
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("bert", bert)
        visitor.visit("cls.predictions.transform.dense", transform)
        visitor.visit("cls.predictions.transform.LayerNorm", norm)
        visitor.visit("cls.predictions.bias", bias)
        visitor.visit("cls.predictions.decoder.weight", bert.embeddings.words.weight)
        visitor.visit("cls.predictions.decoder.bias", bias)
    }
}
