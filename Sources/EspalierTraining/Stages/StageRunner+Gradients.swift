import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors

// Forward and backward of a step, and what they take.
extension StageRunner {
    /// The gradients of a network for a batch, its mean loss, and what the forward saw, part by part.
    ///
    /// - Throws: `TrainingError` where the loss is not finite.
    func forwardAndBackward(
        _ network: Network, _ images: Tensor, _ classes: IndexTensor, random: RandomStream
    ) throws -> (Gradients, loss: Double, Observations) {
        var gradients = Gradients()
        var (sum, seen) = (0.0, [(share: Float, Observations)]())
        for (index, part) in parts(of: classes.count).enumerated() {
            let share = Float(part.count) / Float(classes.count)
            let tape = Tape(
                mode: .training, precision: stage.precision,
                random: stage.microBatches == 1 ? random : random.child(UInt64(index)),
                recomputes: stage.recomputes)
            let examples = images.rows(part)
            let logits = network(tape.input(examples))
            let loss = self.loss(logits, classes.rows(part), examples)
            let value = Double(loss.tensor.scalar)
            guard value.isFinite || Rehearsal.isUnderWay else {
                throw diverged("the loss is \(value)")
            }
            sum += value * Double(share)
            seen.append((share, tape.observations))
            tape.addGradients(of: loss, times: share, to: &gradients)
        }
        return (gradients, sum, Observations(combining: seen))
    }

    /// The micro-batches of a batch, as even as they can be.
    private func parts(of count: Int) -> [Range<Int>] {
        let parts = min(stage.microBatches, count)
        return (0..<parts).map { $0 * count / parts..<($0 + 1) * count / parts }
    }

    /// taskWeight * cross-entropy + weight * T² KL(teacher || student)
    private func loss(_ logits: Value, _ classes: IndexTensor, _ images: Tensor) -> Value {
        let task = logits.crossEntropy(classes, smoothing: stage.smoothing)
        guard let distillation = stage.distillation, let teacher else { return task }
        let view = Tape(mode: .evaluation, isRecording: false)
        let taught = logits.distillation(
            from: teacher.network(view.input(images)).tensor, temperature: distillation.temperature)
        return task.scaled(by: distillation.taskWeight) + taught.scaled(by: distillation.weight)
    }

    /// The bytes of tensors that a step will take at most: parameters, optimizer state, and what comes and goes.
    ///
    /// Found by a rehearsal of the largest batch, with the network as it is and as it will be once it is quantized;
    /// nothing changes.
    func stepMemory() throws -> Int {
        let teacherBytes = bytes(teacher.map { ParameterSet($0.network).entries } ?? [])
        let now = try stepMemory(of: trainee)
        guard let quantization = stage.quantization, state.quantizedAt == nil,
            time.at(quantization.begin) < time.steps
        else { return teacherBytes + now }
        let network = try trainee.network.quantized(quantization.schemes)
        let later = try stepMemory(of: Trainee(network, stage, time, random))
        return teacherBytes + max(now, later)
    }

    private func stepMemory(of trainee: Trainee) throws -> Int {
        let batch = min(stage.batch, data.train.count)
        let entries = trainee.parameters.entries
        let stateBytes = bytes(entries.filter(\.parameter.isTrainable)) * stage.optimizer.slots
        let passing = try Rehearsal.run {
            let images = Tensor.zeros(Shape([batch] + data.input))
            let classes = IndexTensor([Int32](repeating: 0, count: batch))
            _ = try forwardAndBackward(
                trainee.network, images, classes, random: RandomStream(seed: 0))
        }
        return bytes(entries) + stateBytes + passing.peak
    }

    /// What the values of parameters take.
    private func bytes(_ entries: [ParameterSet.Entry]) -> Int {
        entries.reduce(0) {
            let size = $1.parameter.held.count * MemoryLayout<Float>.stride
            return $0 + BufferPool.bytes(ofClass: BufferPool.sizeClass(forBytes: size))
        }
    }
}
