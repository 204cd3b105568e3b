import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import Foundation

/// A network with the weights and the batch that the other side has too.
struct TrainingNetwork {
    let parameters: ParameterSet
    /// How many the batch has.
    let examples: Int
    /// The mean loss of some examples, all of them where no range is given.
    let loss: (Tape, Range<Int>?) -> Value

    /// - Parameter keepsDense: Whether weights under a mask stay dense, for comparison.
    init(_ name: String, _ file: SafeTensors, keepsDense: Bool = false) throws {
        let random = RandomStream(seed: 1)
        let labels = try file.integers("input.labels")
        examples = labels.shape[0]
        func of(_ rows: Range<Int>?) -> IndexTensor { rows.map(labels.rows) ?? labels }
        switch name.prefix(while: { $0 != "-" }) {
        case "mlp":
            let network = try Network(
                .mlp(hidden: [512, 512], dropout: 0), input: [784], classes: 10, random: random)
            let x = try file.tensor("input.x")
            parameters = ParameterSet(network)
            loss = { network($0.input($1.map(x.rows) ?? x)).crossEntropy(of($1)) }
        case "convnet":
            // Two 3x3 convolutions with bias, each with ReLU and pooling; a hidden layer.
            let network = try Network(
                .convnet(channels: [32, 64], hidden: 128, dropout: 0, isFolded: true),
                input: [28, 28, 1], classes: 10, random: random)
            let x = try file.tensor("input.x").permuted([0, 2, 3, 1])
            parameters = ParameterSet(network)
            loss = { network($0.input($1.map(x.rows) ?? x)).crossEntropy(of($1)) }
        case "resnet20":
            let network = try Network(
                .resnet(depth: 20), input: [32, 32, 3], classes: 10, random: random)
            let x = try file.tensor("input.x").permuted([0, 2, 3, 1])
            parameters = ParameterSet(network)
            loss = { network($0.input($1.map(x.rows) ?? x)).crossEntropy(of($1)) }
        case "bert_mini":
            let model = try BertMaskedLM(try Self.configuration(file), random: random)
            let tokens = try Self.tokens(file)
            parameters = ParameterSet(model)
            loss = { model($1.map(tokens.rows) ?? tokens, on: $0).crossEntropy(of($1)) }
        case "minilm", "bert_odd":
            let model = try BertClassifier(try Self.configuration(file), classes: 2, random: random)
            let tokens = try Self.tokens(file)
            parameters = ParameterSet(model)
            loss = { model($1.map(tokens.rows) ?? tokens, on: $0).crossEntropy(of($1)) }
        default: throw BenchError("no network '\(name)' here")
        }
        let missing = try parameters.assign { name in
            let theirs = "param." + Self.theirs(name)
            return file.entries[theirs] == nil ? nil : Self.ours(name, try file.tensor(theirs))
        }
        guard missing.isEmpty else { throw BenchError("no weights for \(missing)") }
        for entry in parameters.entries where file.entries["mask." + entry.name] != nil {
            let bits = try file.integers("mask." + entry.name).elements
            entry.parameter.setMask(Mask(shape: entry.parameter.shape) { bits[$0] != 0 })
            if !keepsDense { entry.parameter.lockMask() }
        }
    }

    /// The other side's name of a residual network's parameter; those of other networks are the same.
    private static func theirs(_ name: String) -> String {
        guard name.hasPrefix("stage") || name.hasPrefix("conv.") || name.hasPrefix("norm.") else {
            return name
        }
        var parts = name.split(separator: ".").map(String.init)
        if parts.count == 2 {
            parts[0] = parts[0] == "conv" ? "conv1" : "bn1"
        } else if let block = Int(parts[1].dropFirst(5)) {
            parts[0] = "layer" + parts[0].dropFirst(5)
            parts[1] = String(block - 1)
            let names = ["norm1": "bn1", "norm2": "bn2", "shortcutNorm": "shortcut_bn"]
            parts[2] = names[parts[2]] ?? parts[2]
        }
        return parts.joined(separator: ".")
    }

    /// The other side's images are channels first: weights of convolutions, and of what reads their flattened result.
    private static func ours(_ name: String, _ tensor: Tensor) -> Tensor {
        if tensor.shape.rank == 4 { return tensor.permuted([0, 2, 3, 1]) }
        guard name == "hidden.weight" else { return tensor }
        return tensor.reshaped(to: [tensor.shape[0], 64, 7, 7]).permuted([0, 2, 3, 1])
            .reshaped(to: tensor.shape)
    }

    private static func configuration(_ file: SafeTensors) throws -> BertConfiguration {
        try JSONDecoder().decode(
            BertConfiguration.self, from: Data((file.metadata["configuration"] ?? "").utf8))
    }

    private static func tokens(_ file: SafeTensors) throws -> TokenBatch {
        let ids = try file.integers("input.ids")
        let mask = try file.integers("input.mask")
        return TokenBatch(
            ids: ids, mask: Tensor(mask.elements.map { Float($0) }, shape: mask.shape))
    }
}
