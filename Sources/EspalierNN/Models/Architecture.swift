public import EspalierTensors

/// What a network is made of, as a recipe names it.
public enum Architecture: Sendable, Hashable {
    /// 3x3 convolutions, each with batch norm, ReLU and 2x2 max pooling, then a hidden layer. Where norms are folded,
    /// convolutions have a bias instead.
    case convnet(channels: [Int], hidden: Int, dropout: Float, isFolded: Bool = false)
    /// Fully connected layers with ReLU.
    case mlp(hidden: [Int], dropout: Float)
    /// The residual network for small images of He et al., 2016: a 3x3 convolution to 16 channels, three stages of n blocks
    /// with 16, 32 and 64 channels, the mean of each channel. Its depth is 6 n + 2.
    case resnet(depth: Int)

    /// The channels of each stage of a residual network.
    static let residualChannels = [16, 32, 64]

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
        case .resnet(let depth):
            guard input.rank == 3 else {
                throw ArchitectureError("a resnet takes images [H, W, C], not \(input)")
            }
            guard depth >= 8, depth % 6 == 2, depth <= 1_202 else {
                throw ArchitectureError(
                    "a resnet's depth is 6 n + 2, from 8 up to 1202, not \(depth)")
            }
            guard input[0] >= 4, input[1] >= 4 else {
                throw ArchitectureError("a resnet halves images twice; \(input) is too small")
            }
            var inputs = Architecture.residualChannels[0]
            // Weights, and scale and shift of the norm.
            try add(inputs, 9 * input[2], more: 2)
            for outputs in Architecture.residualChannels {
                for _ in 0..<(depth - 2) / 6 {
                    try add(outputs, 9 * inputs, more: 2)
                    try add(outputs, 9 * outputs, more: 2)
                    if inputs != outputs { try add(outputs, inputs, more: 2) }
                    inputs = outputs
                }
            }
            features = inputs
        }
        try add(classes, features, more: 1)
        return total
    }

    private var dropout: Float {
        switch self {
        case .convnet(_, _, let dropout, _), .mlp(_, let dropout): dropout
        case .resnet: 0
        }
    }
}

// Written out flat, as recipes name it; what later versions add has a default in earlier files.
extension Architecture: Codable {
    private enum Key: String, CodingKey {
        case family, channels, hidden, dropout, folded, depth
    }

    private enum Family: String, Codable {
        case convnet, mlp, resnet
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
        case .resnet: self = .resnet(depth: try fields.decode(Int.self, forKey: .depth))
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
        case .resnet(let depth):
            try fields.encode(Family.resnet, forKey: .family)
            try fields.encode(depth, forKey: .depth)
        }
        if dropout > 0 { try fields.encode(dropout, forKey: .dropout) }
    }
}

/// An architecture that does not fit its input.
public struct ArchitectureError: Error, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
