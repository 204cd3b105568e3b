import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors

// Forward and backward of a step, and what they take.
extension StageRunner {
    /// The gradients for a batch, its mean loss, and what the forward saw, part by part.
    ///
    /// - Throws: `TrainingError` where the loss is not finite.
    func forwardAndBackward(
        _ images: Tensor, _ classes: IndexTensor, random: RandomStream
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
            let logits = trainee.network(tape.input(examples))
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
    /// Found by a rehearsal of the largest batch; nothing changes.
    func stepMemory() throws -> Int {
        let batch = min(stage.batch, data.train.count)
        let held = parameters.entries.map(\.parameter.held)
        func bytes(_ tensor: Tensor) -> Int {
            BufferPool.bytes(
                ofClass: BufferPool.sizeClass(forBytes: tensor.count * MemoryLayout<Float>.stride))
        }
        let parameterBytes = held.map(bytes).reduce(0, +)
        let trained = parameters.entries.filter(\.parameter.isTrainable).map(\.parameter.held)
        let stateBytes = trained.map(bytes).reduce(0, +) * stage.optimizer.slots
        let teacherBytes =
            teacher.map { ParameterSet($0.network).entries.map { bytes($0.parameter.held) } }?
            .reduce(0, +) ?? 0
        let passing = try Rehearsal.run {
            let images = Tensor.zeros(Shape([batch] + data.input))
            let classes = IndexTensor([Int32](repeating: 0, count: batch))
            _ = try forwardAndBackward(images, classes, random: RandomStream(seed: 0))
        }
        return parameterBytes + stateBytes + teacherBytes + passing.peak
    }
}
