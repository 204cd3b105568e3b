import EspalierCodec
import EspalierData
import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors

// Checks before the first step, and what is told about a stage.
extension StageRunner {
    // A checkpoint may be damaged with a good checksum, and what it was made from may have changed.
    func checkResumed(_ checkpoint: Checkpoint) throws {
        func fail(_ problem: String) -> FileError {
            FileError(path: context.folder.last(stage.name.value), problem)
        }
        guard (0...stage.epochs).contains(state.epoch),
            (0..<max(time.stepsPerEpoch, 1)).contains(state.stepInEpoch),
            state.step == state.epoch * time.stepsPerEpoch + state.stepInEpoch,
            state.examples >= 0, hasConsistentQuantization,
            // The optimizer began anew when the network was quantized.
            checkpoint.optimizer.step == state.step - (state.quantizedAt ?? 0)
        else { throw fail("its position does not fit the recipe: \(state)") }
        guard checkpoint.description.lineage.teacher?.checksum == teacher?.checksum else {
            throw fail("its teacher has changed since; begin a new run with another --out")
        }
    }

    private var hasConsistentQuantization: Bool {
        guard let quantization = stage.quantization else { return state.quantizedAt == nil }
        let begin = time.at(quantization.begin)
        guard let step = state.quantizedAt else { return state.step <= begin }
        return step == begin && step <= state.step
            && trainee.network.quantization == quantization.schemes
    }

    func check() throws {
        let problems = RecipeProblems()
        stage.check(trainee.network, time, problems)
        if state.quantizedAt == nil { stage.checkStart(trainee.network, problems) }
        if stage.locksMasks, parameters.maskFingerprint == nil {
            problems.add(
                "'lock_masks': '\(stage.startFrom?.value ?? "")' has no masks to lock",
                at: stage.name.position)
        }
        if let teacher, let distillation = stage.distillation {
            let network = trainee.network
            if teacher.network.input != network.input
                || teacher.network.classes != network.classes
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

    func summary(_ start: StageStart?) throws -> StageSummary {
        StageSummary(
            stage: stage.name.value,
            parameters: parameters.entries.reduce(0) { $0 + $1.parameter.shape.elementCount },
            prunable: trainee.sparsity.total,
            examples: data.train.count, devExamples: data.dev?.count ?? 0, epochs: stage.epochs,
            steps: time.steps, stepBytes: try stepMemory(),
            startFrom: stage.startFrom?.value.lastPathComponent,
            teacher: stage.distillation?.teacher.value.lastPathComponent, taken: start?.taken ?? [],
            new: start?.new ?? [], unused: start?.unused ?? [])
    }
}
