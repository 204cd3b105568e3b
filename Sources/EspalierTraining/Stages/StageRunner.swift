import EspalierCodec
import EspalierData
import EspalierEngine
import EspalierInterchange
package import EspalierNN
import EspalierTensors

/// What all stages of a run share.
package struct RunContext {
    let recipe: Recipe
    let folder: RunFolder
    let log: RunLog
    let observe: RunObserver
    let shouldStop: () -> Bool

    package init(
        recipe: Recipe, folder: RunFolder, log: RunLog, observe: @escaping RunObserver,
        shouldStop: @escaping () -> Bool
    ) {
        self.recipe = recipe
        self.folder = folder
        self.log = log
        self.observe = observe
        self.shouldStop = shouldStop
    }
}

/// Trains one stage: the loop reads top to bottom.
package final class StageRunner {
    private let stage: Recipe.Stage
    private let data: TaskData
    private let context: RunContext
    private let network: Network
    package let parameters: ParameterSet
    private var description: NetworkFile.Description
    private let teacher: NetworkFile?
    private let pruning: GradualPruning?
    private let schedule: Schedule
    private let random: RandomStream
    private let stepsPerEpoch: Int
    private let steps: Int
    private let prunable: [String]
    private let frozenBuffers: Set<ObjectIdentifier>
    private let maskFingerprint: String?
    private var optimizer: any Optimizer
    private var state: StageState

    /// A stage at its beginning, or where its checkpoint stands.
    package init(
        _ stage: Recipe.Stage, _ data: TaskData, _ context: RunContext,
        resuming checkpoint: Checkpoint?
    ) throws {
        let recipe = context.recipe
        self.stage = stage
        self.data = data
        self.context = context
        random = recipe.random(of: stage)
        stepsPerEpoch = (data.train.count + stage.batch - 1) / stage.batch
        steps = stepsPerEpoch * stage.epochs
        teacher = try stage.distillation.map {
            try NetworkFile(contentsOf: context.folder.file(of: $0.teacher.value, recipe))
        }
        let start = try checkpoint == nil ? StageStart(stage, recipe, data, context.folder) : nil
        network = try start?.network ?? checkpoint.map(\.network) ?? StageRunner.noStart(stage)
        let parameters = ParameterSet(network)
        self.parameters = parameters
        description =
            checkpoint?.description
            ?? NetworkFile.Description(
                architecture: network.architecture, input: Array(network.input),
                classes: network.classes, task: data.task, largestPixel: data.largestPixel,
                lineage: NetworkFile.Lineage(
                    stage: stage.name.value, seed: recipe.seed, startFrom: start?.ancestor,
                    teacher: teacher.flatMap { teacher in
                        stage.distillation.map {
                            NetworkFile.Ancestor(
                                name: $0.teacher.value.lastPathComponent,
                                checksum: teacher.checksum)
                        }
                    }, steps: start?.steps ?? 0))
        for entry in parameters.entries where stage.frozen.match(entry.name) {
            entry.parameter.isTrainable = false
        }
        frozenBuffers = Set(
            parameters.buffers.filter { stage.frozen.match($0.name) }.map {
                ObjectIdentifier($0.buffer)
            })
        if stage.locksMasks {
            for entry in parameters.entries where entry.parameter.mask != nil {
                entry.parameter.lockMask()
            }
        }
        maskFingerprint = stage.locksMasks ? parameters.maskFingerprint : nil
        pruning = stage.pruning.map { [stepsPerEpoch, steps, random] in
            GradualPruning(
                $0, parameters, stepsPerEpoch: stepsPerEpoch, steps: steps,
                random: random.child("prune"))
        }
        prunable = pruning?.entries.map(\.name) ?? []
        schedule = StageRunner.schedule(stage, pruning, perEpoch: stepsPerEpoch, total: steps)
        optimizer = stage.optimizer.make(for: parameters)
        state = StageState()
        state.stepsBefore = start?.steps ?? 0
        if let checkpoint {
            optimizer.state = checkpoint.optimizer
            state = checkpoint.state
            try checkResumed(checkpoint)
        }
        try check()
        let summary = summary(start)
        if checkpoint == nil { try context.log.append(summary) }
        context.observe(.stageBegan(summary, step: state.step))
    }

    private static func noStart(_ stage: Recipe.Stage) throws -> Network {
        throw TrainingError("stage '\(stage.name.value)' has nothing to start from")
    }

    // MARK: - The loop

    /// Trains to the end and leaves the network in the stage's folder.
    package func run() throws {
        while state.epoch < stage.epochs, !hasStoppedEarly {
            let order = data.train.order(epoch: state.epoch, random: random)
            while state.stepInEpoch < stepsPerEpoch {
                if context.shouldStop() {
                    try save()
                    throw RunInterrupted(folder: context.folder.path)
                }
                pruning?.update(step: state.step, optimizer: &optimizer) {
                    context.observe(.pruned(parameter: $0, step: state.step))
                }
                let start = state.stepInEpoch * stage.batch
                try step(order[start..<min(start + stage.batch, order.count)])
                if let every = stage.checkpointEvery {
                    let every = max(every.steps(perEpoch: stepsPerEpoch, total: steps), 1)
                    if state.step % every == 0, state.stepInEpoch < stepsPerEpoch { try save() }
                }
            }
            try endEpoch()
        }
        try finish()
    }

    private func step(_ indices: ArraySlice<Int>) throws {
        let stream = random.child("step").child(UInt64(state.step))
        let (images, classes) = data.train.batch(
            indices, augmentation: data.augmentation, random: stream.child("augment"))
        let tape = Tape(mode: .training, random: stream.child("tape"))
        let logits = network(tape.input(images))
        let loss = self.loss(logits, classes, images)
        let value = Double(loss.tensor.scalar)
        guard value.isFinite else { throw diverged("the loss is \(value)") }
        RunningMoments.fold(tape.batchStatistics, keeping: frozenBuffers)
        var gradients = tape.gradients(of: loss)
        stage.clipping?.apply(to: &gradients, of: parameters)
        let rate = Double(stage.optimizer.rate) * schedule.factor(at: state.step)
        optimizer.update(parameters, with: gradients, rate: Float(rate))

        state.lossSum += value * Double(indices.count)
        state.examples += indices.count
        state.step += 1
        state.stepInEpoch += 1
        description.lineage.steps = state.stepsBefore + state.step
        context.observe(
            .stepped(
                StepProgress(
                    stage: stage.name.value, epoch: state.epoch + 1, epochs: stage.epochs,
                    step: state.step, steps: steps,
                    loss: state.lossSum / Double(state.examples),
                    sparsity: SparsityCount(parameters, including: prunable).share,
                    examples: indices.count)))
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

    private func endEpoch() throws {
        let rate = Double(stage.optimizer.rate) * schedule.factor(at: state.step - 1)
        let loss = state.lossSum / Double(max(state.examples, 1))
        state.epoch += 1
        state.stepInEpoch = 0
        state.lossSum = 0
        state.examples = 0
        var isBest = false
        state.latest = try data.dev.map { dev in
            let result = Evaluation(of: network, on: dev)
            guard result.loss.isFinite else { throw diverged("the dev loss is \(result.loss)") }
            return DevResult(
                correct: result.correct, count: result.count, loss: result.loss, epoch: state.epoch)
        }
        // A network that is still being pruned is not what the recipe asks for.
        if let latest = state.latest, isPruned {
            isBest = latest.isBetter(than: state.best)
            state.passesWithoutBest = isBest ? 0 : state.passesWithoutBest + 1
            if isBest { state.best = latest }
        }
        let record = EpochRecord(
            stage: stage.name.value, epoch: state.epoch, step: state.step, loss: loss, rate: rate,
            sparsity: SparsityCount(parameters, including: prunable).share,
            devAccuracy: state.latest?.accuracy, devLoss: state.latest?.loss, isBest: isBest)
        try context.log.append(record)
        if isBest, stage.selection == .best { try writeNetwork() }
        try save()
        context.observe(.epochEnded(record))
    }

    private func finish() throws {
        if let pruning, let shortfall = pruning.shortfall() {
            throw TrainingError("stage '\(stage.name.value)': \(shortfall)")
        }
        if maskFingerprint != parameters.maskFingerprint, stage.locksMasks {
            throw TrainingError("stage '\(stage.name.value)': a locked mask has moved")
        }
        if stage.selection == .last || state.best == nil { try writeNetwork() }
        state.isComplete = true
        try save()
        context.observe(.stageEnded(stage.name.value))
    }

    private var isPruned: Bool { pruning.map { state.step > $0.rule.end } ?? true }

    private var hasStoppedEarly: Bool {
        stage.patience.map { state.passesWithoutBest >= $0 } ?? false
    }

    private func diverged(_ what: String) -> TrainingError {
        TrainingError(
            "stage '\(stage.name.value)', epoch \(state.epoch + 1), step \(state.step): \(what). "
                + "Lower `rate`, or limit the gradients with `clip: {norm: 1}`. "
                + "The last saved state is untouched.")
    }

    // MARK: - Files

    private func save() throws {
        for entry in parameters.entries {
            guard let index = entry.parameter.value.firstNonFinite else { continue }
            throw diverged(
                "element \(index) of '\(entry.name)' is \(entry.parameter.value.elements[index])")
        }
        // The checkpoint counts on the log's length.
        try context.log.synchronize()
        state.logBytes = context.log.length
        let path = context.folder.last(stage.name.value)
        try Checkpoint(
            state: state, network: network, description: description, optimizer: optimizer.state,
            recipe: context.recipe.fingerprint
        ).write(to: path) { context.observe(.writing(path, $0)) }
    }

    private func writeNetwork() throws {
        let path = context.folder.network(stage.name.value)
        let bytes = try NetworkFile.writer(network, description).encoded()
        try FileAccess.writeAtomically(bytes, to: path) { context.observe(.writing(path, $0)) }
    }

    // MARK: - Checks before the first step

    // A checkpoint may be damaged with a good checksum, and what it was made from may have changed.
    private func checkResumed(_ checkpoint: Checkpoint) throws {
        func fail(_ problem: String) -> FileError {
            FileError(path: context.folder.last(stage.name.value), problem)
        }
        guard (0...stage.epochs).contains(state.epoch),
            (0..<max(stepsPerEpoch, 1)).contains(state.stepInEpoch),
            state.step == state.epoch * stepsPerEpoch + state.stepInEpoch,
            checkpoint.optimizer.step == state.step, state.examples >= 0
        else { throw fail("its position does not fit the recipe: \(state)") }
        guard checkpoint.description.lineage.teacher?.checksum == teacher?.checksum else {
            throw fail("its teacher has changed since; begin a new run with another --out")
        }
    }

    private func check() throws {
        let problems = RecipeProblems()
        let names = parameters.entries.map(\.name)
        stage.check(names: names, parameters: parameters, stepsPerEpoch: stepsPerEpoch, problems)
        if stage.locksMasks, parameters.maskFingerprint == nil {
            problems.add(
                "'lock_masks': '\(stage.startFrom?.value ?? "")' has no masks to lock",
                at: stage.name.position)
        }
        if let teacher, let distillation = stage.distillation {
            if teacher.network.input != network.input || teacher.network.classes != network.classes
            {
                problems.add(
                    "the teacher takes \(teacher.network.input) to \(teacher.network.classes) classes, "
                        + "the student \(network.input) to \(network.classes)",
                    at: distillation.teacher.position)
            }
            if teacher.description.largestPixel != data.largestPixel {
                problems.add(
                    "the teacher's largest pixel is \(teacher.description.largestPixel), here it is "
                        + "\(data.largestPixel); give both the same `largest_pixel`",
                    at: distillation.teacher.position)
            }
        }
        try problems.throwIfAny()
    }

    private func summary(_ start: StageStart?) -> StageSummary {
        StageSummary(
            stage: stage.name.value,
            parameters: parameters.entries.reduce(0) { $0 + $1.parameter.shape.elementCount },
            prunable: SparsityCount(parameters, including: prunable).total,
            examples: data.train.count, devExamples: data.dev?.count ?? 0, epochs: stage.epochs,
            steps: steps, startFrom: stage.startFrom?.value.lastPathComponent,
            teacher: stage.distillation?.teacher.value.lastPathComponent, taken: start?.taken ?? [],
            new: start?.new ?? [], unused: start?.unused ?? [])
    }

    private static func schedule(
        _ stage: Recipe.Stage, _ pruning: GradualPruning?, perEpoch: Int, total: Int
    ) -> Schedule {
        var rewind: Schedule.Rewind?
        if let pruning, let to = stage.pruning?.rewindRate {
            rewind = Schedule.Rewind(
                from: pruning.rule.end, to: to.steps(perEpoch: perEpoch, total: total))
        }
        return Schedule(
            stage.schedule, warmup: stage.warmup.steps(perEpoch: perEpoch, total: total),
            total: total, rewind: rewind)
    }
}
