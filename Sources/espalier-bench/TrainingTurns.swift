import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTraining
import Foundation

/// A training step that runs when it is told to: `scripts/bench-training` lets it take turns with PyTorch's.
///
/// Reads a number of steps a line from standard input, and answers with a line of JSON: the seconds of each, and the loss.
enum TrainingTurns {
    /// What both sides train.
    static let names = ["mlp", "convnet", "resnet20"]

    static func run(_ name: String) throws {
        let (architecture, input, batch): (Architecture, Shape, Int)
        switch name {
        case "mlp":
            (architecture, input, batch) = (.mlp(hidden: [512, 512], dropout: 0), [784], 128)
        case "convnet":
            // Two 3x3 convolutions with bias, each with ReLU and pooling; a hidden layer.
            (architecture, input, batch) = (
                .convnet(channels: [32, 64], hidden: 128, dropout: 0, isFolded: true), [28, 28, 1],
                128
            )
        case "resnet20":
            (architecture, input, batch) = (.resnet(depth: 20), [32, 32, 3], 64)
        default: throw BenchError("no network '\(name)': \(names.joined(separator: ", "))")
        }
        let network = try Network(
            architecture, input: input, classes: 10, random: RandomStream(seed: 1))
        let parameters = ParameterSet(network)
        let examples = Tensor(
            RandomStream(seed: 2).uniform(batch * input.elementCount),
            shape: Shape([batch] + input))
        let labels = IndexTensor((0..<batch).map { Int32($0 % 10) })
        var optimizer = AdamW()
        let clock = ContinuousClock()
        while let line = readLine(), let count = Int(line) {
            var (seconds, last) = ([Double](), Float(0))
            for _ in 0..<count {
                let start = clock.now
                let tape = Tape(mode: .training)
                let loss = network(tape.input(examples)).crossEntropy(labels)
                last = loss.tensor.scalar
                optimizer.update(parameters, with: tape.gradients(of: loss), rate: 1e-3)
                let elapsed = (clock.now - start).components
                seconds.append(Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
            }
            print("{\"seconds\":\(seconds),\"loss\":\(last)}")
            fflush(nil)
        }
    }
}

/// A benchmark that cannot be run as asked.
struct BenchError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
