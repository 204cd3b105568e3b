/// The sizes of a BERT encoder, coded under the names of transformers' `config.json`.
public struct BertConfiguration: Sendable, Hashable {
    /// Number of tokens.
    public var vocabulary: Int
    /// Features of a token.
    public var hidden: Int
    /// Of the encoder.
    public var layers: Int
    /// They share the features.
    public var heads: Int
    /// Features between the two linear layers of a feed-forward part.
    public var intermediate: Int
    /// The longest sequence.
    public var positions: Int
    /// Parts that a sequence may have.
    public var types: Int
    /// Of hidden states.
    public var dropout: Float
    /// Of attention's probabilities.
    public var attentionDropout: Float
    /// Of the norms.
    public var epsilon: Float
    /// Between the two linear layers of a feed-forward part.
    public var activation: ActivationFunction
    /// The deviation of initial weights.
    public var deviation: Float
    /// The token whose row gets no gradient from look-ups.
    public var padding: Int32?

    /// Sizes as in BERT where none are given.
    public init(
        vocabulary: Int = 30_522, hidden: Int = 768, layers: Int = 12, heads: Int = 12,
        intermediate: Int = 3_072, positions: Int = 512, types: Int = 2, dropout: Float = 0.1,
        attentionDropout: Float = 0.1, epsilon: Float = 1e-12,
        activation: ActivationFunction = .gelu, deviation: Float = 0.02, padding: Int32? = 0
    ) {
        self.vocabulary = vocabulary
        self.hidden = hidden
        self.layers = layers
        self.heads = heads
        self.intermediate = intermediate
        self.positions = positions
        self.types = types
        self.dropout = dropout
        self.attentionDropout = attentionDropout
        self.epsilon = epsilon
        self.activation = activation
        self.deviation = deviation
        self.padding = padding
    }

    /// - Throws: `ArchitectureError` where sizes are impossible or too large.
    public func check() throws(ArchitectureError) {
        let sizes = [vocabulary, hidden, heads, intermediate, positions, types]
        guard sizes.allSatisfy({ (1...1 << 24).contains($0) }), (0...1 << 10).contains(layers),
            hidden % heads == 0
        else { throw ArchitectureError("a BERT of impossible sizes: \(self)") }
        guard (0..<1).contains(dropout), (0..<1).contains(attentionDropout), epsilon >= 0,
            deviation >= 0
        else { throw ArchitectureError("a BERT with impossible numbers: \(self)") }
        let tables = (vocabulary + positions + types) * hidden
        let layer = 4 * hidden * (hidden + 1) + 2 * hidden * intermediate
        // Of sizes up to 2^24 and 2^10 layers: no product overflows.
        guard tables + layers * layer <= Architecture.maximumParameters else {
            throw ArchitectureError("a BERT with too many parameters: \(self)")
        }
    }
}

extension BertConfiguration: Codable {
    private enum CodingKeys: String, CodingKey {
        case vocabulary = "vocab_size"
        case hidden = "hidden_size"
        case layers = "num_hidden_layers"
        case heads = "num_attention_heads"
        case intermediate = "intermediate_size"
        case positions = "max_position_embeddings"
        case types = "type_vocab_size"
        case dropout = "hidden_dropout_prob"
        case attentionDropout = "attention_probs_dropout_prob"
        case epsilon = "layer_norm_eps"
        case activation = "hidden_act"
        case deviation = "initializer_range"
        case padding = "pad_token_id"
    }

    /// What is not there is as in BERT.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init()
        try fields.read(.vocabulary, into: &vocabulary)
        try fields.read(.hidden, into: &hidden)
        try fields.read(.layers, into: &layers)
        try fields.read(.heads, into: &heads)
        try fields.read(.intermediate, into: &intermediate)
        try fields.read(.positions, into: &positions)
        try fields.read(.types, into: &types)
        try fields.read(.dropout, into: &dropout)
        try fields.read(.attentionDropout, into: &attentionDropout)
        try fields.read(.epsilon, into: &epsilon)
        try fields.read(.activation, into: &activation)
        try fields.read(.deviation, into: &deviation)
        try fields.read(.padding, into: &padding)
    }
}
