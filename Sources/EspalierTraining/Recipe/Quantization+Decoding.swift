import EspalierNN
import EspalierTensors

extension Recipe.Quantization {
    private enum Sharing: String, CaseIterable {
        case channel, tensor
    }

    /// `{weights: {bits, per}, activations: {bits}, from}`, each with a default.
    init(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'quantize'", problems)
        defer { fields.finish() }
        position = node.position
        // Codes of fewer bits are to come; until then a recipe that asks for them must not get eight.
        func bits(_ fields: RecipeFields) -> Int {
            guard let bits = fields.int("bits"), bits != 8 else { return 8 }
            problems.add(
                "'bits' is 8 in this version, not \(bits)",
                at: fields.position(of: "bits"))
            return 8
        }
        schemes = NetworkQuantization()
        if let node = fields.node("weights") {
            let weights = RecipeFields(node, "'weights'", problems)
            let sharing = weights.choice("per", Sharing.self) ?? .channel
            schemes.weights = .weights(
                bits: bits(weights), per: sharing == .channel ? .channel(axis: 0) : .tensor)
            weights.finish()
        }
        if let node = fields.node("activations") {
            let activations = RecipeFields(node, "'activations'", problems)
            schemes.activations = .activations(bits: bits(activations))
            activations.finish()
        }
        begin = fields.span("from") ?? .steps(0)
    }
}
