import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// Cross-entropy and hits in double precision, by the definition.
private func measure(
    _ network: Network, on batches: ImageBatches, smoothing: Double = 0
) -> (loss: Double, accuracy: Double) {
    let (images, classes) = batches.batch(0..<batches.count)
    let tape = Tape(mode: .evaluation, isRecording: false)
    let logits = network(tape.input(images)).tensor
    let width = logits.shape[1]
    var (loss, hits) = (0.0, 0)
    for (row, label) in classes.elements.enumerated() {
        let values = logits.elements[row * width..<(row + 1) * width].map(Double.init)
        let sum = log(values.map { exp($0) }.reduce(0, +))
        let surprise = values.map { sum - $0 }
        loss += (1 - smoothing) * surprise[Int(label)]
        loss += smoothing / Double(width) * surprise.reduce(0, +)
        hits += values.firstIndex(of: values.max() ?? 0) == Int(label) ? 1 : 0
    }
    return (loss / Double(batches.count), Double(hits) / Double(batches.count))
}

/// Each field of a stage does what it says.
@Suite struct TrainerFieldTests {
    @Test("early_stop ends a stage after `patience` passes without a better one")
    func earlyStop() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = "\(FieldRun.whole), \(FieldRun.still), early_stop: {patience: 2}"
            // Weights that stand still are never better than in the first pass.
            let plain = try run.run("plain", "epochs: 9, \(fields)")
            #expect(plain.map(\.isBest) == [true, false, false])
            // The first pass that counts is the seventh: pruning ends at the step before it.
            let pruned = try run.run(
                "pruned",
                """
                epochs: 14, \(fields), prune: {to: 90%, during: [0 steps, 6 steps], \
                every: 1 steps, except: ["head.*"]}
                """)
            #expect(pruned.count == 9)
            #expect(pruned.filter(\.isBest).map(\.epoch) == [7])
            #expect(pruned.last.map { abs($0.sparsity - 0.9) < 0.01 } ?? false)
        }
    }

    /// Without momentum and with a norm limit below the gradient's norm, a step is as long as
    /// rate x limit: the rates that are logged are those that the weights were moved by.
    @Test(arguments: ["constant", "linear", "cosine", "{step: {every: 2, factor: 0.5}}"])
    func scheduleWarmupAndClip(_ schedule: String) throws {
        let factors: [Double] = (0..<8).map { step in
            if step < 2 { return Double(step) / 2 }
            let progress = Double(step - 2) / 6
            switch schedule {
            case "constant": return 1
            case "linear": return 1 - progress
            case "cosine": return 0.5 * (1 + cos(Double.pi * progress))
            default: return pow(0.5, Double((step - 2) / 2))
            }
        }
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            try run.run("start", "epochs: 1, \(FieldRun.whole), \(FieldRun.still)")
            var before = try run.network("start")
            var moves: [Double] = []
            let epochs = try run.run(
                "run",
                """
                epochs: 8, \(FieldRun.whole), schedule: \(schedule), warmup: 2 steps, \
                optimizer: {sgd: {rate: 0.5, momentum: 0}}, clip: {norm: 0.02}
                """,
                observe: { event in
                    guard case .epochEnded = event, let now = try? run.lastNetwork("run")
                    else { return }
                    moves.append(now.distance(to: before))
                    before = now
                })
            #expect(epochs.count == 8 && moves.count == 8)
            for (epoch, (move, factor)) in zip(epochs, zip(moves, factors)) {
                #expect(abs(epoch.rate - 0.5 * factor) < 1e-7, "epoch \(epoch.epoch)")
                #expect(abs(move - 0.01 * factor) < 1e-5, "epoch \(epoch.epoch)")
            }
        }
    }

    @Test("the momentum of one cycle takes the place of the rule's own")
    func oneCycleMomentum() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            func train(_ name: String, _ momentum: Float, _ low: Float, _ high: Float) throws {
                try run.run(
                    name,
                    """
                    epochs: 4, \(FieldRun.whole), select: last, \
                    schedule: {one_cycle: {low_momentum: \(low), high_momentum: \(high)}}, \
                    optimizer: {sgd: {rate: 0.1, momentum: \(momentum)}}
                    """)
            }
            try train("one", 0.9, 0.3, 0.8)
            try train("same", 0.1, 0.3, 0.8)
            try train("other", 0.9, 0.1, 0.5)
            let one = try run.network("one")
            #expect(try run.network("same").distance(to: one) == 0)
            #expect(try run.network("other").distance(to: one) > 1e-6)
        }
    }

    @Test("each way of clipping keeps the weights where they were")
    func clip() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = "epochs: 2, \(FieldRun.whole), optimizer: {sgd: {rate: 0.5}}"
            try run.run("start", "epochs: 2, \(FieldRun.whole), \(FieldRun.still)")
            try run.run("free", fields)
            let start = try run.network("start")
            #expect(try run.network("free").distance(to: start) > 0.05)
            for way in ["norm", "largest", "value"] {
                try run.run(way, fields + ", clip: {\(way): 1e-7}")
                let moved = try run.network(way).distance(to: start)
                #expect(moved < 1e-5, "\(way): \(moved)")
            }
        }
    }

    @Test("label_smoothing spreads a share of the target over all classes")
    func labelSmoothing() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = "epochs: 1, \(FieldRun.whole), \(FieldRun.still)"
            let plain = try run.run("plain", fields)
            let smooth = try run.run("smooth", fields + ", label_smoothing: 0.3")
            let (network, train) = (try run.network("plain"), try run.data().train)
            #expect(abs(plain[0].loss - measure(network, on: train).loss) < 1e-5)
            let expected = measure(network, on: train, smoothing: 0.3).loss
            #expect(abs(smooth[0].loss - expected) < 1e-5)
            #expect(abs(smooth[0].loss - plain[0].loss) > 1e-3)
        }
    }

    @Test("rewind_rate takes the rate back when pruning has ended")
    func rewindRate() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let epochs = try run.run(
                "run",
                """
                epochs: 10, \(FieldRun.whole), schedule: linear, optimizer: {sgd: {rate: 1}}, \
                clip: {norm: 0.01}, prune: {to: 50%, during: [0 steps, 5 steps], \
                every: 1 steps, rewind_rate: 2 steps}
                """)
            // From step 5 on the schedule runs from its step 2 to its end, in the five steps left.
            let expected: [Double] = [1, 0.9, 0.8, 0.7, 0.6, 0.8, 0.64, 0.48, 0.32, 0.16]
            for (epoch, rate) in zip(epochs, expected) { #expect(abs(epoch.rate - rate) < 1e-9) }
            #expect(epochs.count == 10)
        }
    }

    /// High rates and small noisy batches: results on the dev part go up and down.
    private let restless =
        "epochs: 12, batch: 8, schedule: constant, optimizer: {sgd: {rate: 1, momentum: 0.9}}"

    @Test("select: best leaves the network of the best pass, measured on the dev part alone")
    func selectBest() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let noisy = "dev: 20%, augment: [noise]"
            let epochs = try run.run("best", restless + ", select: best", data: noisy)
            let best = try #require(epochs.last { $0.isBest })
            #expect(best.epoch < epochs.count, "choose a more restless run")
            // No pass is better than the one that says so.
            #expect(best.devAccuracy == epochs.compactMap(\.devAccuracy).max())
            let dev = try #require(try run.data().dev)
            let left = measure(try run.network("best"), on: dev)
            #expect(left.accuracy == best.devAccuracy)
            #expect(abs(left.loss - (best.devLoss ?? 0)) < 1e-4 * max(left.loss, 1))
            #expect(try run.bits("best") != run.lastNetwork("best").bits)

            let last = try run.run("last", restless + ", select: last", data: noisy)
            #expect(last.map(\.devLoss) == epochs.map(\.devLoss))
            #expect(try run.bits("last") == run.lastNetwork("best").bits)
            #expect(try run.bits("last") == run.lastNetwork("last").bits)
        }
    }

    @Test("a network that is still being pruned is never the best")
    func selectAfterPruning() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            // Pruning at the very end leaves it no time to recover: each earlier pass is better.
            let epochs = try run.run(
                "run",
                """
                epochs: 8, batch: 16, optimizer: {adamw: {rate: 1e-2}}, schedule: linear, \
                prune: {to: 95%, during: [30 steps, 34 steps], every: 1 steps}
                """)
            let accuracies = epochs.compactMap(\.devAccuracy)
            #expect(accuracies.prefix(6).max() ?? 0 > accuracies.suffix(2).max() ?? 1)
            #expect(epochs.filter(\.isBest).map(\.epoch).allSatisfy { $0 > 6 })
            #expect(epochs.contains { $0.isBest })
            let weights = try #require(try run.network("run").tensors["hidden1.weight"])
            #expect(weights.elements.count { $0 == 0 } == 274)
        }
    }

    @Test(
        "weight, task_weight and temperature each change the run; no weight, no teacher"
    )
    func distillation() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let teacher = "epochs: 2, batch: 16"
            func student(_ out: String, _ fields: String) throws -> [String: [UInt32]] {
                try run.run(out, teacher, "epochs: 2, batch: 16, start_from: one\(fields)")
                return try run.bits(out, "two")
            }
            func distill(_ fields: String) -> String { ", distill: {teacher: one, \(fields)}" }
            let runs = [
                try student("a", distill("weight: 0.5, task_weight: 0.5, temperature: 2")),
                try student("b", distill("weight: 0.8, task_weight: 0.5, temperature: 2")),
                try student("c", distill("weight: 0.5, task_weight: 0.9, temperature: 2")),
                try student("d", distill("weight: 0.5, task_weight: 0.5, temperature: 4")),
                try student("plain", ""),
            ]
            #expect(Set(runs).count == runs.count)
            let silent = try student("silent", distill("weight: 0, task_weight: 1"))
            #expect(silent == runs[4])
            // Without task weight labels do not matter: one that equals its teacher has no loss.
            let epochs = try run.run(
                "same", teacher,
                "epochs: 1, batch: 1000, start_from: one, "
                    + "distill: {teacher: one, weight: 3, task_weight: 0}")
            #expect(abs(epochs.last?.loss ?? 1) < 1e-6)
        }
    }

    @Test("lock_masks makes every mask final, in a resumed stage too")
    func lockMasks() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let recipe = try Recipe(path: tiny.path)
            let stage = try #require(recipe.stages.last)
            let place = RunFolder(path: folder + "/run")
            let context = RunContext(
                recipe: recipe, folder: place,
                log: try RunLog(path: folder + "/again.jsonl", length: 0), observe: { _ in },
                shouldStop: { false })
            let data = try FieldRun.data("classes", of: recipe)
            let saved = try Checkpoint(contentsOf: place.last(stage.name.value))
            for checkpoint in [nil, saved] {
                let runner = try StageRunner(stage, data, context, resuming: checkpoint)
                let entries = runner.parameters.entries
                #expect(
                    entries.filter { $0.parameter.mask != nil }.map(\.name) == ["hidden.weight"])
                func locked() -> [String] {
                    entries.filter(\.parameter.isMaskLocked).map(\.name)
                }
                #expect(locked() == ["hidden.weight"])
                try runner.run()
                #expect(locked() == ["hidden.weight"])
            }
        }
    }
}
