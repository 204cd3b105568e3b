/// The sizes of a GPT-2 decoder, coded under the names of transformers' `config.json`.
public struct GPTConfiguration: Sendable, Hashable {
    /// Number of tokens.
    public var vocabulary: Int
    /// Features of a token.
    public var hidden: Int
    /// Of the decoder.
    public var layers: Int
    /// They share the features.
    public var heads: Int
    /// Features between the two linear layers of a feed-forward part; four times the hidden ones unless given.
    public var intermediate: Int?
    /// The longest sequence.
    public var positions: Int
    /// Of hidden states, and of attention's probabilities.
    public var dropout: Float
    /// Of the norms.
    public var epsilon: Float
    /// Between the two linear layers of a feed-forward part.
    public var activation: ActivationFunction
    /// The deviation of initial weights.
    public var deviation: Float

    /// Sizes as in the smallest GPT-2 where none are given.
    public init(
        vocabulary: Int = 50_257, hidden: Int = 768, layers: Int = 12, heads: Int = 12,
        intermediate: Int? = nil, positions: Int = 1_024, dropout: Float = 0.1,
        epsilon: Float = 1e-5, activation: ActivationFunction = .geluTanh, deviation: Float = 0.02
    ) {
        self.vocabulary = vocabulary
        self.hidden = hidden
        self.layers = layers
        self.heads = heads
        self.intermediate = intermediate
        self.positions = positions
        self.dropout = dropout
        self.epsilon = epsilon
        self.activation = activation
        self.deviation = deviation
    }

    var initializer: Initializer { .normal(deviation: deviation) }

    /// - Throws: `ArchitectureError` where sizes are impossible or too large.
    public func check() throws(ArchitectureError) {
        let sizes = [vocabulary, hidden, heads, intermediate ?? hidden, positions]
        guard sizes.allSatisfy({ (1...1 << 24).contains($0) }), (0...1 << 10).contains(layers),
            hidden % heads == 0
        else { throw ArchitectureError("a GPT of impossible sizes: \(self)") }
        guard (0..<1).contains(dropout), epsilon >= 0, deviation >= 0 else {
            throw ArchitectureError("a GPT with impossible numbers: \(self)")
        }
        let layer = 4 * hidden * (hidden + 1) + 2 * hidden * (intermediate ?? 4 * hidden)
        guard (vocabulary + positions) * hidden + layers * layer <= Architecture.maximumParameters
        else { throw ArchitectureError("a GPT with too many parameters: \(self)") }
    }
}

extension GPTConfiguration: Codable {
    private enum CodingKeys: String, CodingKey {
        case vocabulary = "vocab_size"
        case hidden = "n_embd"
        case layers = "n_layer"
        case heads = "n_head"
        case intermediate = "n_inner"
        case positions = "n_positions"
        case dropout = "resid_pdrop"
        case epsilon = "layer_norm_epsilon"
        case activation = "activation_function"
        case deviation = "initializer_range"
    }

    /// What is not there is as in GPT-2.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init()
        try fields.read(.vocabulary, into: &vocabulary)
        try fields.read(.hidden, into: &hidden)
        try fields.read(.layers, into: &layers)
        try fields.read(.heads, into: &heads)
        try fields.read(.intermediate, into: &intermediate)
        try fields.read(.positions, into: &positions)
        try fields.read(.dropout, into: &dropout)
        try fields.read(.epsilon, into: &epsilon)
        try fields.read(.activation, into: &activation)
        try fields.read(.deviation, into: &deviation)
    }
}
