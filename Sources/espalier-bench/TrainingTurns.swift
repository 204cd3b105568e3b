import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTraining
import Foundation

/// A training step that runs when it is told to: `scripts/bench-training` lets it take turns with PyTorch's.
///
/// Prints a line of JSON about the step when it is ready; then reads a number of steps a line from standard input, and
/// answers with the seconds and the loss of each.
struct TrainingTurns {
    private let network: TrainingNetwork
    private let precision: Precision
    private let rate: Float
    private var optimizer = AdamW()

    /// - Parameter state: A safetensors file with weights, masks and a batch, as the script writes it.
    init(_ name: String, state: String, precision: Precision) throws {
        let file = try SafeTensors(contentsOf: state)
        network = try TrainingNetwork(name, file)
        self.precision = precision
        guard let rate = file.metadata["rate"].flatMap(Float.init) else {
            throw BenchError("\(state): no learning rate")
        }
        self.rate = rate
    }

    private struct Start: Encodable {
        let version = Version.current
        let threads = Machine.threads
        let isa = ISA.current.rawValue
        let blasCore = BLAS.core
        let flops: Int
        let liveFlops: Int
        let parameters: Int
    }

    private struct Turn: Encodable {
        var seconds: [Double] = []
        var losses: [Float] = []
    }

    mutating func run() throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        func answer(_ value: some Encodable) throws {
            print(String(decoding: try encoder.encode(value), as: UTF8.self))
            fflush(nil)
        }
        let work = recorded().tape.work
        try answer(
            Start(
                flops: work.dense, liveFlops: work.live,
                parameters: network.parameters.entries.reduce(0) {
                    $0 + $1.parameter.shape.elementCount
                }))
        let clock = ContinuousClock()
        while let line = readLine(), let count = Int(line) {
            var turn = Turn()
            for _ in 0..<count {
                let start = clock.now
                turn.losses.append(step())
                let elapsed = (clock.now - start).components
                turn.seconds.append(Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
            }
            try answer(turn)
        }
    }

    private func recorded() -> (tape: Tape, loss: Value) {
        let tape = Tape(mode: .training, precision: precision)
        return (tape, network.loss(tape))
    }

    private mutating func step() -> Float {
        let (tape, loss) = recorded()
        RunningMoments.fold(tape.batchStatistics)
        optimizer.update(network.parameters, with: tape.gradients(of: loss), rate: rate)
        return loss.tensor.scalar
    }
}

/// A network with the weights and the batch that the other side has too.
private struct TrainingNetwork {
    let parameters: ParameterSet
    let loss: (Tape) -> Value

    init(_ name: String, _ file: SafeTensors) throws {
        let random = RandomStream(seed: 1)
        let labels = try file.integers("input.labels")
        switch name.prefix(while: { $0 != "-" }) {
        case "mlp":
            let network = try Network(
                .mlp(hidden: [512, 512], dropout: 0), input: [784], classes: 10, random: random)
            let x = try file.tensor("input.x")
            parameters = ParameterSet(network)
            loss = { network($0.input(x)).crossEntropy(labels) }
        case "convnet":
            // Two 3x3 convolutions with bias, each with ReLU and pooling; a hidden layer.
            let network = try Network(
                .convnet(channels: [32, 64], hidden: 128, dropout: 0, isFolded: true),
                input: [28, 28, 1], classes: 10, random: random)
            let x = try file.tensor("input.x").permuted([0, 2, 3, 1])
            parameters = ParameterSet(network)
            loss = { network($0.input(x)).crossEntropy(labels) }
        case "resnet20":
            let network = try Network(
                .resnet(depth: 20), input: [32, 32, 3], classes: 10, random: random)
            let x = try file.tensor("input.x").permuted([0, 2, 3, 1])
            parameters = ParameterSet(network)
            loss = { network($0.input(x)).crossEntropy(labels) }
        case "bert_mini":
            let model = try BertMaskedLM(try Self.configuration(file), random: random)
            let tokens = try Self.tokens(file)
            parameters = ParameterSet(model)
            loss = { model(tokens, on: $0).crossEntropy(labels) }
        case "minilm", "bert_odd":
            let model = try BertClassifier(try Self.configuration(file), classes: 2, random: random)
            let tokens = try Self.tokens(file)
            parameters = ParameterSet(model)
            loss = { model(tokens, on: $0).crossEntropy(labels) }
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
            entry.parameter.lockMask()
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

/// A benchmark that cannot be run as asked.
struct BenchError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
