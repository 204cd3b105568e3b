import EspalierData
import EspalierEngine
import EspalierNN
import EspalierRuntime
import EspalierTensors

/// How well a network does on labelled examples. What is asked is always the runtime: the accuracy shown is the one that
/// ships.
struct Evaluation {
    /// The class that it finds for each example.
    private(set) var predictions: [Int32] = []
    /// Examples whose class it finds.
    private(set) var correct = 0
    /// Mean cross-entropy.
    private(set) var loss = 0.0

    var count: Int { predictions.count }
    var accuracy: Double { Double(correct) / Double(max(count, 1)) }

    /// Runs a network as it would ship over all examples.
    ///
    /// - Throws: `GraphError` where it cannot be run outside training.
    init(of network: Network, on examples: ImageBatches) throws {
        self.init(of: try Model(network.graph()), on: examples)
    }

    /// Runs a model over all examples.
    init(of model: Model, on examples: ImageBatches, batch: Int = 256) {
        for start in stride(from: 0, to: examples.count, by: batch) {
            let (images, classes) = examples.batch(start..<min(start + batch, examples.count))
            let logits = model.run(images)
            let tape = Tape(mode: .evaluation, isRecording: false)
            let loss = tape.input(logits).crossEntropy(classes).tensor.scalar
            self.loss += Double(loss) * Double(classes.count)
            let found = logits.largestOfRows
            correct += zip(found, classes.elements).count { $0 == $1 }
            predictions += found
        }
        loss /= Double(max(count, 1))
    }
}

extension Tensor {
    /// The index of the largest element of each row; the first one on a tie.
    var largestOfRows: [Int32] {
        let (rows, width) = (shape[0], shape[1])
        let values = span
        return (0..<rows).map { row in
            var best = 0
            for index in 1..<max(width, 1)
            where values[row * width + index] > values[row * width + best] { best = index }
            return Int32(best)
        }
    }
}
