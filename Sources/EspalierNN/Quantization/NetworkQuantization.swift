public import EspalierTensors

/// How the numbers of a network become codes.
public struct NetworkQuantization: Sendable, Hashable, Codable {
    /// Weights of linear layers and convolutions, the head's too. Biases stay floats.
    public var weights: QuantizationScheme
    /// What the network takes, and what each ReLU gives. The head's logits stay floats.
    public var activations: QuantizationScheme

    /// Schemes for weights and activations.
    public init(weights: QuantizationScheme, activations: QuantizationScheme) {
        self.weights = weights
        self.activations = activations
    }

    /// Weights symmetric with a scale an output or one for all, activations affine with one scale.
    public init(
        weightBits: Int = 8, per granularity: QuantizationScheme.Granularity = .channel(axis: 0),
        activationBits: Int = 8
    ) {
        self.init(
            weights: .weights(bits: weightBits, per: granularity),
            activations: .activations(bits: activationBits))
    }

    /// Throws where no network can have these schemes: a file may hold anything.
    func check() throws(ArchitectureError) {
        guard weights.isSymmetric, weights.axis ?? 0 == 0 else {
            throw ArchitectureError("weights are symmetric, with a scale an output or one for all")
        }
        guard activations.axis == nil else {
            throw ArchitectureError("activations have one scale")
        }
    }
}
