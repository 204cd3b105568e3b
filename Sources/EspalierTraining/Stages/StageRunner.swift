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
    let stage: Recipe.Stage
    let data: TaskData
    let context: RunContext
    let teacher: NetworkFile?
    let time: StageTime
    let random: RandomStream
    var trainee: Trainee
    var description: NetworkFile.Description
    var state: StageState
    private let schedule: Schedule
    private let maskFingerprint: String?

    package var parameters: ParameterSet { trainee.parameters }

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
        time = StageTime(stage, examples: data.train.count)
        teacher = try stage.distillation.map {
            try NetworkFile(contentsOf: context.folder.file(of: $0.teacher.value, recipe))
        }
        let start = try checkpoint == nil ? StageStart(stage, recipe, data, context.folder) : nil
        let network = try start?.network ?? checkpoint?.network ?? StageRunner.noStart(stage)
        trainee = Trainee(network, stage, time, random)
        description =
            checkpoint?.description
            ?? NetworkFile.Description(
                architecture: network.architecture, quantization: network.quantization,
                input: Array(network.input), classes: network.classes, task: data.task,
                largestPixel: data.largestPixel,
                lineage: NetworkFile.Lineage(
                    stage: stage.name.value, seed: recipe.seed, startFrom: start?.ancestor,
                    teacher: teacher.flatMap { teacher in
                        stage.distillation.map {
                            NetworkFile.Ancestor(
                                name: $0.teacher.value.lastPathComponent,
                                checksum: teacher.checksum)
                        }
                    }, steps: start?.steps ?? 0))
        maskFingerprint = stage.locksMasks ? trainee.parameters.maskFingerprint : nil
        schedule = StageRunner.schedule(stage, trainee.pruning, time)
        state = StageState()
        state.stepsBefore = start?.steps ?? 0
        if let checkpoint {
            trainee.optimizer.state = checkpoint.optimizer
            state = checkpoint.state
            try checkResumed(checkpoint)
        }
        try check()
        let summary = try summary(start)
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
            while state.stepInEpoch < time.stepsPerEpoch {
                if context.shouldStop() {
                    try save()
                    throw RunInterrupted(folder: context.folder.path)
                }
                try quantizeWhereDue()
                trainee.pruning?.update(step: state.step, optimizer: &trainee.optimizer) {
                    context.observe(.pruned(parameter: $0, step: state.step))
                }
                let start = state.stepInEpoch * stage.batch
                try step(order[start..<min(start + stage.batch, order.count)])
                if let every = stage.checkpointEvery {
                    let every = max(time.at(every), 1)
                    if state.step % every == 0, state.stepInEpoch < time.stepsPerEpoch {
                        try save()
                    }
                }
            }
            try endEpoch()
        }
        try quantizeWhereDue()
        try finish()
    }

    private func step(_ indices: ArraySlice<Int>) throws {
        let stream = random.child("step").child(UInt64(state.step))
        let (images, classes) = data.train.batch(
            indices, augmentation: data.augmentation, random: stream.child("augment"))
        var (gradients, value, observations) = try forwardAndBackward(
            trainee.network, images, classes, random: stream.child("tape"))
        RunningMoments.fold(observations.statistics, keeping: trainee.frozenBuffers)
        QuantizationSite.fold(observations.ranges, keeping: trainee.frozenBuffers)
        stage.clipping?.apply(to: &gradients, of: parameters)
        let rate = Double(stage.optimizer.rate) * schedule.factor(at: state.step)
        if let momentum = schedule.momentum(at: state.step) {
            trainee.optimizer.momentum = Float(momentum)
        }
        trainee.optimizer.update(parameters, with: gradients, rate: Float(rate))

        state.lossSum += value * Double(indices.count)
        state.examples += indices.count
        state.step += 1
        state.stepInEpoch += 1
        description.lineage.steps = state.stepsBefore + state.step
        context.observe(
            .stepped(
                StepProgress(
                    stage: stage.name.value, epoch: state.epoch + 1, epochs: stage.epochs,
                    step: state.step, steps: time.steps,
                    loss: state.lossSum / Double(state.examples),
                    sparsity: trainee.sparsity.share,
                    examples: indices.count)))
    }

    private func endEpoch() throws {
        let rate = Double(stage.optimizer.rate) * schedule.factor(at: state.step - 1)
        let loss = state.lossSum / Double(max(state.examples, 1))
        state.epoch += 1
        state.stepInEpoch = 0
        state.lossSum = 0
        state.examples = 0
        var isBest = false
        try evaluate()
        // A network that is still to be pruned or quantized is not what the recipe asks for.
        if let latest = state.latest, isPruned, isQuantized {
            isBest = latest.isBetter(than: state.best)
            state.passesWithoutBest = isBest ? 0 : state.passesWithoutBest + 1
            if isBest { state.best = latest }
        }
        let record = EpochRecord(
            stage: stage.name.value, epoch: state.epoch, step: state.step, loss: loss, rate: rate,
            sparsity: trainee.sparsity.share,
            devAccuracy: state.latest?.accuracy, devLoss: state.latest?.loss, isBest: isBest)
        try context.log.append(record)
        if isBest, stage.selection == .best { try writeNetwork() }
        try save()
        context.observe(.epochEnded(record))
    }

    /// Reads the dev part.
    func evaluate() throws {
        state.latest = try data.dev.map { dev in
            let result = try Evaluation(of: trainee.network, on: dev)
            guard result.loss.isFinite else { throw diverged("the dev loss is \(result.loss)") }
            return DevResult(
                correct: result.correct, count: result.count, loss: result.loss, epoch: state.epoch)
        }
    }

    private func finish() throws {
        if let pruning = trainee.pruning, let shortfall = pruning.shortfall() {
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

    private var isPruned: Bool { trainee.pruning.map { state.step > $0.rule.end } ?? true }

    private var isQuantized: Bool { stage.quantization == nil || state.quantizedAt != nil }

    private var hasStoppedEarly: Bool {
        stage.patience.map { state.passesWithoutBest >= $0 } ?? false
    }

    func diverged(_ what: String) -> TrainingError {
        TrainingError(
            "stage '\(stage.name.value)', epoch \(state.epoch + 1), step \(state.step): \(what). "
                + "Lower `rate`, or limit the gradients with `clip: {norm: 1}`. "
                + "The last saved state is untouched.")
    }

    // MARK: - Files

    func save() throws {
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
            state: state, network: trainee.network, description: description,
            optimizer: trainee.optimizer.state,
            recipe: context.recipe.fingerprint
        ).write(to: path) { context.observe(.writing(path, $0)) }
    }

    private func writeNetwork() throws {
        let path = context.folder.network(stage.name.value)
        let bytes = try NetworkFile.writer(trainee.network, description).encoded()
        try FileAccess.writeAtomically(bytes, to: path) { context.observe(.writing(path, $0)) }
    }

    private static func schedule(
        _ stage: Recipe.Stage, _ pruning: GradualPruning?, _ time: StageTime
    ) -> Schedule {
        var rewind: Schedule.Rewind?
        if let pruning, let to = stage.pruning?.rewindRate {
            rewind = Schedule.Rewind(from: pruning.rule.end, to: time.at(to))
        }
        return Schedule(
            stage.schedule, warmup: time.at(stage.warmup), total: time.steps, rewind: rewind)
    }
}
