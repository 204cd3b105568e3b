import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors

/// How well a network does on labelled examples.
struct Evaluation {
    /// Examples whose class it finds.
    var correct = 0
    var count = 0
    /// Mean cross-entropy.
    var loss = 0.0

    var accuracy: Double { Double(correct) / Double(max(count, 1)) }

    /// Runs a network in evaluation mode over all examples.
    init(of network: Network, on examples: ImageBatches, batch: Int = 256) {
        for start in stride(from: 0, to: examples.count, by: batch) {
            let (images, classes) = examples.batch(start..<min(start + batch, examples.count))
            let tape = Tape(mode: .evaluation, isRecording: false)
            let logits = network(tape.input(images))
            loss += Double(logits.crossEntropy(classes).tensor.scalar) * Double(classes.count)
            let values = logits.tensor.span
            let width = logits.shape[1]
            for row in 0..<classes.count {
                var best = 0
                for index in 1..<max(width, 1)
                where values[row * width + index] > values[row * width + best] { best = index }
                if best == Int(classes.elements[row]) { correct += 1 }
            }
            count += classes.count
        }
        loss /= Double(max(count, 1))
    }
}
