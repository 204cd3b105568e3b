import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// What reaches a stage's steps: images, parameters, settings of the update rule.
@Suite struct TrainerDataTests {
    @Test("running moments of batch norm move by a tenth in every step")
    func runningMoments() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            // Weights that stand still and batches of all images: each step sees the same moments.
            try run.run(
                "run", "epochs: 3, \(FieldRun.whole), \(FieldRun.still), select: last",
                model: "family: convnet, channels: [3], hidden: 4")
            let network = try run.network("run")
            let train = try run.data().train
            let tape = Tape(mode: .training)
            _ = network(tape.input(train.batch(0..<train.count).images))
            let seen = try #require(tape.batchStatistics.first)
            let left = network.tensors
            let old = 0.9 * 0.9 * 0.9
            for (name, start, batch) in [("mean", 0.0, seen.mean), ("variance", 1, seen.variance)] {
                let running = try #require(left["norm1.running.\(name)"])
                #expect(running.count == 3)
                for (value, batch) in zip(running.elements, batch.elements) {
                    let expected = old * start + (1 - old) * Double(batch)
                    #expect(abs(Double(value) - expected) < 1e-5, "\(name)")
                }
            }
        }
    }

    /// All images of batches without their turned copies, one row of numbers each.
    private func rows(_ batches: ImageBatches, everyOf step: Int = 1) -> [[Float]] {
        let indices = Array(stride(from: 0, to: batches.count, by: step))
        let images = batches.batch(indices).images
        let size = images.count / indices.count
        return indices.indices.map { Array(images.elements[$0 * size..<($0 + 1) * size]) }
    }

    @Test("dev images are kept apart from training, the same ones for every task of a data set")
    func devImages() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let recipe = try Recipe(path: tiny.path)
            let classes = try FieldRun.data("classes", of: recipe)
            let pretext = try FieldRun.data("pretext", of: recipe)
            let train = rows(classes.train)
            let dev = rows(try #require(classes.dev))
            #expect(train.count == FieldRun.examples && dev.count == 96 - FieldRun.examples)
            // No two images are alike, so that all 96 are there and none twice.
            #expect(Set(train + dev).count == 96)
            // Every fourth example of the pretext task is an image that was not turned.
            #expect(rows(pretext.train, everyOf: 4) == train)
            #expect(rows(try #require(pretext.dev), everyOf: 4) == dev)
            let other = try FieldRun.data(
                "classes", of: Recipe(path: tiny.path, assignments: ["seed=9"]))
            #expect(rows(try #require(other.dev)) != dev)
        }
    }

    @Test("a data set's own dev part is used, and all training images train")
    func ownDevPart() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let root = folder + "/datasets/tiny/"
            for kind in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
                try FileManager.default.copyItem(
                    atPath: root + "t10k-" + kind, toPath: root + "dev-" + kind)
            }
            var steps: [Int] = []
            try run.run(
                "run", "epochs: 1, batch: 50",
                observe: { if case .stepped(let step) = $0 { steps.append(step.examples) } })
            #expect(steps == [50, 46])
            #expect(try run.data().dev?.count == 40)
        }
    }

    @Test("each change of `augment` reaches the batches, in its own way")
    func augmentation() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let changes = [
                "", "quarter_turns", "shift", "noise", "{shift: 2}", "{noise: 0.3}",
            ]
            var runs: Set<[String: [UInt32]]> = []
            for (index, change) in changes.enumerated() {
                let data = "dev: 20%, augment: [\(change)]"
                try run.run("run\(index)", "epochs: 1, batch: 32, select: last", data: data)
                runs.insert(try run.bits("run\(index)"))
            }
            #expect(runs.count == changes.count)
        }
    }

    @Test("A frozen norm keeps its running statistics")
    func frozenNorm() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let model = "family: convnet, channels: [4], hidden: 0"
            try run.run(
                "run", "epochs: 1, select: last",
                "start_from: one, epochs: 2, select: last, freeze: [\"norm1.*\"]", model: model)
            let (before, after) = (try run.bits("run", "one"), try run.bits("run", "two"))
            for name in ["norm1.weight", "norm1.running.mean", "norm1.running.variance"] {
                #expect(before[name] != nil && before[name] == after[name], "\(name)")
            }
            #expect(before["conv1.weight"] != after["conv1.weight"])
        }
    }

    @Test("Quarter turns of images that are not square are refused")
    func turnsNeedSquares() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let path = folder + "/datasets/tiny/"
            for (part, count) in [("train", 96), ("t10k", 40)] {
                try Fixtures.writeIDX(
                    [UInt8](repeating: 9, count: count * 36), [count, 4, 9],
                    to: path + part + "-images-idx3-ubyte")
            }
            #expect(throws: RecipeError.self) {
                try run.run("run", "epochs: 1", data: "augment: [quarter_turns]")
            }
            try run.run("run", "epochs: 1", data: "augment: [shift]")
        }
    }

    @Test("The lineage counts the steps that were done")
    func lineageAfterAnEarlyStop() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            try run.run(
                "run", "epochs: 2, \(FieldRun.whole), select: last",
                "start_from: one, epochs: 9, \(FieldRun.whole), \(FieldRun.still), select: last, "
                    + "early_stop: {patience: 2}")
            let file = try NetworkFile(
                contentsOf: RunFolder(path: folder + "/run").network("two"))
            // Two of the first stage, and three until it was seen that nothing gets better.
            #expect(file.description.lineage.steps == 5)
        }
    }

    @Test("freeze keeps parameters bit for bit, weight decay or not")
    func freeze() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = "epochs: 2, batch: 32, select: last"
            try run.run("start", "\(fields), \(FieldRun.still)")
            try run.run(
                "run",
                """
                \(fields), freeze: ["hidden1.*"], \
                optimizer: {adamw: {rate: 0.01, weight_decay: 0.5}}
                """)
            let (start, end) = (try run.bits("start"), try run.bits("run"))
            for name in start.keys {
                #expect((start[name] == end[name]) == name.hasPrefix("hidden1."), "\(name)")
            }
        }
    }

    /// With gradients cut down to nothing, weights shrink by rate x decay a step and others stay.
    @Test(arguments: ["sgd: {momentum: 0,", "adamw: {"])
    func weightDecay(_ rule: String) throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = "epochs: 3, \(FieldRun.whole), select: last, schedule: constant"
            try run.run("start", "\(fields), \(FieldRun.still)")
            try run.run(
                "run",
                """
                \(fields), clip: {norm: 1e-20}, \
                optimizer: {\(rule) rate: 0.5, weight_decay: 0.2, no_decay: ["*.bias", "head.*"]}}
                """)
            let (start, end) = (try run.network("start").tensors, try run.network("run").tensors)
            for (name, before) in start {
                let keep: Float = name == "hidden1.weight" ? 0.9 * 0.9 * 0.9 : 1
                let after = try #require(end[name])
                for (old, new) in zip(before.elements, after.elements) {
                    #expect(abs(new - keep * old) < 1e-6, "\(name)")
                }
            }
        }
    }

    @Test("every setting of an update rule reaches it")
    func optimizerSettings() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let rules = [
                "sgd: {rate: 0.1}", "sgd: {rate: 0.2}", "sgd: {rate: 0.1, momentum: 0.5}",
                "sgd: {rate: 0.1, nesterov: true}", "sgd: {rate: 0.1, weight_decay: 0.1}",
                "adamw: {rate: 0.1}", "adamw: {rate: 0.2}", "adamw: {rate: 0.1, beta1: 0.5}",
                "adamw: {rate: 0.1, beta2: 0.9}", "adamw: {rate: 0.1, epsilon: 0.1}",
                "adamw: {rate: 0.1, weight_decay: 0.1}",
            ]
            var runs: Set<[String: [UInt32]]> = []
            for (index, rule) in rules.enumerated() {
                try run.run(
                    "run\(index)", "epochs: 1, batch: 32, select: last, optimizer: {\(rule)}")
                runs.insert(try run.bits("run\(index)"))
            }
            #expect(runs.count == rules.count)
        }
    }

    @Test("checkpoint_every saves within an epoch, at its steps alone")
    func checkpointEvery() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            func saved(_ out: String, _ fields: String) throws -> [Int] {
                var (step, saves) = (0, [Int]())
                let last = RunFolder(path: "\(folder)/\(out)").last("one")
                try run.run(
                    out, "epochs: 2, batch: 16" + fields,
                    observe: { event in
                        if case .stepped(let progress) = event { step = progress.step }
                        if case .writing(last, .renamed) = event { saves.append(step) }
                    })
                return saves
            }
            // Five steps an epoch; each epoch saves at its end, the last one once more as complete.
            #expect(try saved("plain", "") == [5, 10, 10])
            #expect(try saved("every", ", checkpoint_every: 3 steps") == [3, 5, 6, 9, 10, 10])
            #expect(try saved("share", ", checkpoint_every: 20%") == [2, 4, 5, 6, 8, 10, 10])
        }
    }

    @Test("batch and epochs give the steps; the last of an epoch takes what is left")
    func stepsAndSeed() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            func steps(_ out: String, _ fields: String, seed: Int = 5) throws -> [Int] {
                var (sizes, total) = ([Int](), 0)
                let epochs = try run.run(
                    out, fields, seed: seed,
                    observe: { event in
                        guard case .stepped(let step) = event else { return }
                        sizes.append(step.examples)
                        total = step.steps
                    })
                #expect(epochs.map(\.epoch) == Array(1...epochs.count))
                #expect(epochs.last?.step == sizes.count && total == sizes.count)
                return sizes
            }
            #expect(try steps("a", "epochs: 2, batch: 32") == [32, 32, 13, 32, 32, 13])
            #expect(try steps("b", "epochs: 3, batch: 77") == [77, 77, 77])
            #expect(try steps("c", "epochs: 1") == [64, 13])
            // The same seed gives the same network, another one another.
            _ = try steps("same", "epochs: 2, batch: 32")
            _ = try steps("other", "epochs: 2, batch: 32", seed: 6)
            #expect(try run.bits("a") == run.bits("same"))
            #expect(try run.bits("a") != run.bits("other"))
            // Another start too, not only another dev part.
            for seed in [5, 6] {
                try run.run(
                    "start\(seed)", "epochs: 1, \(FieldRun.still)", data: "dev: 0%", seed: seed)
            }
            #expect(try run.bits("start5") != run.bits("start6"))
        }
    }
}
