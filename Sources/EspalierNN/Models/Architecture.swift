public import EspalierTensors

/// What a network is made of, as a recipe names it.
public enum Architecture: Sendable, Hashable {
    /// 3x3 convolutions, each with batch norm, ReLU and 2x2 max pooling, then a hidden layer. Where norms are folded,
    /// convolutions have a bias instead.
    case convnet(channels: [Int], hidden: Int, dropout: Float, isFolded: Bool = false)
    /// Fully connected layers with ReLU.
    case mlp(hidden: [Int], dropout: Float)

    /// The most numbers that a network may have: 2 GiB of them.
    public static let maximumParameters = 1 << 29

    /// The number of trainable numbers, without making them.
    ///
    /// - Throws: `ArchitectureError` where sizes are impossible, do not fit the input, or are too many.
    public func parameterCount(input: Shape, classes: Int) throws(ArchitectureError) -> Int {
        var total = 0
        func add(_ outputs: Int, _ inputs: Int, more: Int) throws(ArchitectureError) {
            let limit = 1...1 << 24
            guard limit.contains(outputs), limit.contains(inputs) else {
                throw ArchitectureError("a layer of \(inputs) inputs and \(outputs) outputs")
            }
            total += outputs * (inputs + more)
            guard total <= Architecture.maximumParameters else {
                throw ArchitectureError(
                    "the network would have more than \(Architecture.maximumParameters) parameters")
            }
        }
        guard (0..<1).contains(dropout) else { throw ArchitectureError("a dropout of \(dropout)") }
        var features: Int
        switch self {
        case .convnet(let channels, let hidden, _, let isFolded):
            guard input.rank == 3 else {
                throw ArchitectureError("a convnet takes images [H, W, C], not \(input)")
            }
            var (height, width, inputs) = (input[0], input[1], input[2])
            for (index, outputs) in channels.enumerated() {
                guard height >= 2, width >= 2 else {
                    throw ArchitectureError(
                        "a convnet of \(channels.count) convolutions halves images "
                            + "\(input) \(channels.count) times; at most \(index) fit")
                }
                // Weights, and scale and shift of the norm, or the bias.
                try add(outputs, 9 * inputs, more: isFolded ? 1 : 2)
                (height, width, inputs) = (height / 2, width / 2, outputs)
            }
            features = height * width * inputs
            guard hidden >= 0 else { throw ArchitectureError("\(hidden) hidden features") }
            if hidden > 0 {
                try add(hidden, features, more: 1)
                features = hidden
            }
        case .mlp(let hidden, _):
            features = input.elementCount
            for outputs in hidden {
                try add(outputs, features, more: 1)
                features = outputs
            }
        }
        try add(classes, features, more: 1)
        return total
    }

    private var dropout: Float {
        switch self {
        case .convnet(_, _, let dropout, _), .mlp(_, let dropout): dropout
        }
    }
}

// Written out flat, as recipes name it; what later versions add has a default in earlier files.
extension Architecture: Codable {
    private enum Key: String, CodingKey {
        case family, channels, hidden, dropout, folded
    }

    private enum Family: String, Codable {
        case convnet, mlp
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        let dropout = try fields.decodeIfPresent(Float.self, forKey: .dropout) ?? 0
        switch try fields.decode(Family.self, forKey: .family) {
        case .convnet:
            self = .convnet(
                channels: try fields.decode([Int].self, forKey: .channels),
                hidden: try fields.decode(Int.self, forKey: .hidden), dropout: dropout,
                isFolded: try fields.decodeIfPresent(Bool.self, forKey: .folded) ?? false)
        case .mlp:
            self = .mlp(hidden: try fields.decode([Int].self, forKey: .hidden), dropout: dropout)
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        switch self {
        case .convnet(let channels, let hidden, _, let isFolded):
            try fields.encode(Family.convnet, forKey: .family)
            try fields.encode(channels, forKey: .channels)
            try fields.encode(hidden, forKey: .hidden)
            if isFolded { try fields.encode(true, forKey: .folded) }
        case .mlp(let hidden, _):
            try fields.encode(Family.mlp, forKey: .family)
            try fields.encode(hidden, forKey: .hidden)
        }
        if dropout > 0 { try fields.encode(dropout, forKey: .dropout) }
    }
}

/// An architecture that does not fit its input.
public struct ArchitectureError: Error, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
