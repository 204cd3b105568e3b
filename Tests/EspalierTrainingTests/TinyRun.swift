import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation

/// A run that takes a fraction of a second: small synthetic images, a small network, all the mechanisms.
struct TinyRun {
    /// The folder that holds data set, recipe and runs.
    let folder: String

    /// Writes data set and recipe into a folder.
    init(in folder: String, recipe: String = TinyRun.recipe) throws {
        self.folder = folder
        try TinyRun.writeDataset(folder + "/datasets/tiny")
        try FileManager.default.createDirectory(
            atPath: folder + "/recipes", withIntermediateDirectories: true)
        try recipe.write(toFile: path, atomically: false, encoding: .utf8)
    }

    /// The recipe's file.
    var path: String { folder + "/recipes/tiny.yaml" }

    /// Carries the recipe out into a folder below.
    @discardableResult
    func run(
        _ out: String, set assignments: [String] = [], resumes: Bool = false,
        observe: @escaping RunObserver = { _ in }, shouldStop: @escaping () -> Bool = { false }
    ) throws -> RunResult {
        let recipe = try Recipe.checked(path: path, assignments: assignments)
        return try TrainingRun(
            recipe: recipe, folder: folder + "/" + out, resumes: resumes
        ).run(observe: observe, shouldStop: shouldStop)
    }

    /// All files of a run with their bytes; the closing table without its time.
    func files(_ out: String) throws -> [String: Data] {
        let root = folder + "/" + out
        let walk = FileManager.default.enumerator(atPath: root)
        var files: [String: Data] = [:]
        for name in walk?.allObjects as? [String] ?? [] {
            let type = try FileManager.default.attributesOfItem(atPath: root + "/" + name)[.type]
            guard type as? FileAttributeType == .typeRegular,
                let data = FileManager.default.contents(atPath: root + "/" + name)
            else { continue }
            files[name] = data
            guard name == "result.json" else { continue }
            // Times differ from run to run.
            var result = try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
            result["seconds"] = nil
            result["latency_ms"] = nil
            files[name] = try JSONSerialization.data(withJSONObject: result, options: .sortedKeys)
        }
        return files
    }

    /// 96 + 40 images of 6x6 in four classes: a bright quarter each, with noise.
    static func writeDataset(_ folder: String, labels change: ([UInt8]) -> [UInt8] = { $0 })
        throws
    {
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        for (prefix, count, seed) in [("train", 96, UInt64(1)), ("t10k", 40, 2)] {
            let noise = RandomStream(seed: seed).integers(count * 36, below: 90)
            var (pixels, labels) = ([UInt8](), [UInt8]())
            for image in 0..<count {
                let label = image % 4
                labels.append(UInt8(label))
                for pixel in 0..<36 {
                    let quarter = (pixel / 18) * 2 + (pixel % 6) / 3
                    pixels.append(UInt8(noise[image * 36 + pixel] + (quarter == label ? 150 : 0)))
                }
            }
            try Fixtures.writeIDX(
                pixels, [count, 6, 6], to: "\(folder)/\(prefix)-images-idx3-ubyte")
            try Fixtures.writeIDX(
                change(labels), [count], to: "\(folder)/\(prefix)-labels-idx1-ubyte")
        }
    }

    /// What makes the recipe's student quantized in the middle of a pass.
    static let quantized = [quantize(from: "60%")]

    /// What makes it quantized after its last step.
    static let quantizedAtTheEnd = [
        quantize(from: "100%"), "stages.student.select=last", "stages.student.early_stop=~",
    ]

    private static func quantize(from: String) -> String {
        "stages.student.quantize={weights: {bits: 8, per: channel}, activations: {bits: 8}, "
            + "from: \(from)}"
    }

    /// Two teachers, a student pruned in the first stage and locked in the second.
    static let recipe = """
        name: tiny
        seed: 3
        data:
          pretext: {dataset: tiny, task: rotation, dev: 20%, augment: [noise]}
          classes: {dataset: tiny, classes: 4, dev: 20%, augment: [shift, noise]}
        models:
          network: {family: convnet, channels: [4], hidden: 16, dropout: 0.1}
        defaults:
          batch: 32
          optimizer: {adamw: {rate: 5e-3}}
          warmup: 10%
        export: {stage: student, format: espalier, require: {predictions: equal, size_below: 12 KB}}
        stages:
          - {name: pretext_teacher, model: network, on: pretext, epochs: 2}
          - name: sparse_student
            start_from: pretext_teacher
            on: pretext
            epochs: 3
            checkpoint_every: 4 steps
            distill: {teacher: pretext_teacher, weight: 0.5, temperature: 2}
            prune:
              to: 75%
              during: [10%, 60%]
              every: 2 steps
              pattern: {block: {outputs: 1, inputs: 4}}
              except: ["head.*", "conv1.*"]
          - {name: task_teacher, start_from: pretext_teacher, head: new, on: classes, epochs: 3}
          - name: student
            start_from: sparse_student
            head: new
            on: classes
            epochs: 4
            lock_masks: true
            optimizer: {sgd: {rate: 0.05, momentum: 0.9, weight_decay: 0.01}}
            clip: {norm: 1}
            early_stop: {patience: 3}
            distill: {teacher: task_teacher, weight: 0.5, temperature: 2}
        report: {teacher: task_teacher, student: student}
        """
}
