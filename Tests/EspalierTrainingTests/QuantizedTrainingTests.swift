import EspalierData
import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// Stages that quantize their network.
@Suite struct QuantizedTrainingTests {
    private func withRun<Result>(_ body: (FieldRun) throws -> Result) throws -> Result {
        try Fixtures.withFolder { try body(FieldRun(in: $0)) }
    }

    /// The log's lines about quantization.
    private struct Line: Decodable {
        struct Site: Decodable {
            var name: String
            var low: Float
            var high: Float
        }
        var stage: String
        var step: Int
        var parameters: [String]
        var sites: [Site]
        var devAccuracy: Double?
    }

    private func lines(_ run: FieldRun, _ out: String) throws -> [Line] {
        let log = try String(contentsOfFile: "\(run.tiny.folder)/\(out)/log.jsonl", encoding: .utf8)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try log.split(separator: "\n").filter { $0.contains("\"event\":\"quantized\"") }
            .map { try decoder.decode(Line.self, from: Data($0.utf8)) }
    }

    private func optimizerStep(_ run: FieldRun, _ out: String) throws -> Int? {
        let path = RunFolder(path: "\(run.tiny.folder)/\(out)").last("one")
        return try SafeTensors(contentsOf: path).metadata["optimizer_step"].flatMap { Int($0) }
    }

    /// The effective value of a parameter.
    private func effective(_ network: Network, _ name: String) throws -> Tensor {
        let parameter = try #require(ParameterSet(network)[name])
        return Tape(mode: .evaluation, isRecording: false).parameter(parameter).tensor
    }

    @Test func codesOfTheSavedNetwork() throws {
        try withRun { run in
            let model = "family: mlp, hidden: [32]"
            try run.run(
                "one", "epochs: 3, quantize: {weights: {per: tensor}, from: 1 epochs}",
                model: model)
            let network = try run.network("one")
            #expect(network.quantization == NetworkQuantization(per: .tensor))
            let raw = try #require(ParameterSet(network)["hidden1.weight"]).value.elements
            #expect(Set(raw).count > 255)
            #expect(Set(try effective(network, "hidden1.weight").elements).count <= 255)
            // A scale for each output: more values in all, each a code times its output's scale.
            try run.run("rows", "epochs: 3, quantize: {from: 1 epochs}", model: model)
            let seen = try effective(try run.network("rows"), "hidden1.weight").elements
            #expect(Set(seen).count > 255)
            for row in 0..<32 {
                let values = seen[row * 36..<(row + 1) * 36]
                let scale = (values.map(\.magnitude).max() ?? 0) / 127
                for value in values {
                    let code = value / scale
                    #expect(abs(code - code.rounded()) < 1e-3 && code.magnitude < 127.5)
                }
            }
        }
    }

    @Test func theStageTellsOnceAndBeginsTheOptimizerAnew() throws {
        try withRun { run in
            let epochs = try run.run(
                "run", "epochs: 4, batch: 20, quantize: {from: 6 steps}, select: best")
            let float = try run.run("float", "epochs: 4, batch: 20")
            let told = try lines(run, "run")
            #expect(told.map(\.step) == [6] && told[0].stage == "one")
            #expect(told[0].parameters == ["hidden1.weight", "head.weight"])
            #expect(told[0].sites.map(\.name) == ["input_site", "hidden1_site"])
            #expect(told[0].devAccuracy != nil)
            // Four steps a pass: the first is the same, the second not.
            #expect(epochs[0].loss == float[0].loss && epochs[0].devLoss == float[0].devLoss)
            #expect(epochs[1].loss != float[1].loss)
            // The rate goes on as if nothing had happened.
            #expect(epochs.map(\.rate) == float.map(\.rate))
            // Only a quantized network can be the best.
            #expect(!epochs[0].isBest && float[0].isBest && epochs[1].isBest)
            #expect(try optimizerStep(run, "run") == 10)
            #expect(try optimizerStep(run, "float") == 16)
            // Ranges have moved on from where calibration left them.
            let sites = try run.lastNetwork("run").sites
            #expect(sites[1].site.movingRange.high != told[0].sites[1].high)
            #expect(sites[1].site.movingRange.low == 0)
        }
    }

    @Test func calibrationSeesTheImagesAsTheyAre() throws {
        try withRun { run in
            try run.run(
                "run", "epochs: 1, \(FieldRun.whole), select: last, quantize: {from: 100%}",
                data: "dev: 20%, augment: [{noise: 3}]")
            let train = try run.data().train
            let images = train.batch(0..<train.count).images
            let told = try lines(run, "run")[0].sites[0]
            #expect(told.low == images.range.low && told.high == images.range.high)
        }
    }

    @Test("Quantized after the last step, the control: the network of floats with codes")
    func afterTraining() throws {
        try withRun { run in
            let fields = "epochs: 3, batch: 20, select: last"
            let model = "family: convnet, channels: [4], hidden: 8, dropout: 0.1"
            try run.run("float", fields, model: model)
            try run.run("run", fields + ", quantize: {from: 100%}", model: model)
            let (float, quantized) = (try run.network("float"), try run.network("run"))
            let expected = ParameterSet(try float.quantized(NetworkQuantization()))
            for entry in ParameterSet(quantized).entries {
                let value = try #require(expected[entry.name]).value
                #expect(entry.parameter.value.isIdentical(to: value), "\(entry.name)")
            }
            #expect(try optimizerStep(run, "run") == 0)
            let told = try lines(run, "run")[0]
            for (site, line) in zip(quantized.sites, told.sites) {
                #expect(site.site.movingRange == ValueRange(low: line.low, high: line.high))
            }
            let result = try RunResult(contentsOf: "\(run.tiny.folder)/run/result.json")
            #expect(result.stages[0].devAccuracy == told.devAccuracy)
        }
    }

    @Test func aStageGoesOnWithAQuantizedStart() throws {
        try withRun { run in
            let first = "epochs: 2, quantize: {weights: {per: tensor}}"
            try run.run(
                "run", first, "epochs: 2, start_from: one, head: new, freeze: [\"*_site.range\"]")
            let (one, two) = (try run.network("run"), try run.network("run", "two"))
            #expect(two.quantization == NetworkQuantization(per: .tensor))
            for (before, after) in zip(one.sites, two.sites) {
                #expect(before.site.movingRange == after.site.movingRange)
            }
            #expect(one.bits["hidden1.weight"] != two.bits["hidden1.weight"])
            // Unless they are frozen, ranges follow.
            try run.run("moving", first, "epochs: 2, start_from: one")
            let moved = try run.network("moving", "two").sites
            #expect(moved[1].site.movingRange != one.sites[1].site.movingRange)
            #expect(try lines(run, "moving").map(\.stage) == ["one"])
        }
    }

    @Test func whatIsFrozenStaysFrozenAfterFolding() throws {
        try withRun { run in
            let model = "family: convnet, channels: [4], hidden: 8"
            try run.run(
                "run", "epochs: 2",
                "epochs: 2, start_from: one, quantize: {from: 50%}, "
                    + "freeze: [\"norm1.*\", conv1.weight]", model: model)
            let expected = try run.network("run").quantized(NetworkQuantization()).bits
            let last = try run.lastNetwork("run", "two").bits
            for name in ["conv1.weight", "conv1.bias"] {
                #expect(last[name] == expected[name], "\(name)")
            }
            #expect(last["hidden.weight"] != expected["hidden.weight"])
        }
    }

    @Test func patternsOfNormsOutliveThem() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let set =
                TinyRun.quantized + [
                    "stages.student.freeze=[\"norm1.bias\"]",
                    "stages.student.optimizer.sgd.no_decay=[\"norm*\"]",
                ]
            try tiny.run("whole", set: set)
            var isQuantized = false
            #expect(throws: RunInterrupted.self) {
                try tiny.run(
                    "parts", set: set,
                    observe: { if case .quantized = $0 { isQuantized = true } },
                    shouldStop: { isQuantized })
            }
            try tiny.run("parts", set: set, resumes: true)
            #expect(try tiny.files("parts") == tiny.files("whole"))
            let files = try ["sparse_student", "student"].map {
                try NetworkFile(contentsOf: "\(folder)/whole/\($0)/network.safetensors")
            }
            let sets = files.map { ParameterSet($0.network) }
            #expect(sets[0].maskFingerprints == sets[1].maskFingerprints)
            #expect(!sets[1].maskFingerprints.isEmpty)
            let measured = try NetworkEvaluation(
                file: folder + "/whole/student/network.safetensors",
                data: folder + "/datasets/tiny", part: "test")
            #expect(measured.description.contains("8 bits"))
        }
    }

    /// Before the first step the stage's largest is told, on resuming the largest of what is left.
    @Test func memoryOfQuantizedStepsIsPredicted() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            func told(
                _ out: String, _ set: [String], resumes: Bool = false, isWhole: Bool = true
            ) throws -> Int {
                var (bytes, isQuantized) = (0, false)
                func observe(_ event: RunEvent) {
                    if case .stageBegan(let summary, _) = event { bytes = summary.stepBytes }
                    if case .quantized = event { isQuantized = true }
                }
                func run() throws {
                    try tiny.run(
                        out, set: set, resumes: resumes, observe: observe,
                        shouldStop: { isQuantized && !isWhole })
                }
                if isWhole { try run() } else { #expect(throws: RunInterrupted.self) { try run() } }
                return bytes
            }
            let floats = try told("floats", [])
            let all = try told("run", TinyRun.quantized, isWhole: false)
            let codes = try told("run", TinyRun.quantized, resumes: true)
            #expect(codes > floats && all == codes)
            // No step follows.
            #expect(try told("end", TinyRun.quantizedAtTheEnd) == floats)
        }
    }

    @Test func damagedFilesAreRefused() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run", set: TinyRun.quantized)
            func message(_ body: () throws -> Void) -> String {
                do {
                    try body()
                    return "no error"
                } catch { return "\(error)" }
            }
            func copy(
                _ path: String, to target: String, _ change: (inout SafeTensors.Writer) -> Void
            )
                throws
            {
                let file = try SafeTensors(contentsOf: path)
                var writer = SafeTensors.Writer()
                writer.metadata = file.metadata
                for name in file.entries.keys.sorted() where name != "conv1_site.range" {
                    if name.hasSuffix(".mask") {
                        writer.add(name, words: try file.words(name))
                    } else {
                        writer.add(name, try file.tensor(name))
                    }
                }
                change(&writer)
                try writer.write(to: target)
            }
            let network = folder + "/run/student/network.safetensors"
            let hostile = folder + "/hostile.safetensors"
            let range = try SafeTensors(contentsOf: network).tensor("conv1_site.range")
            func read(_ bounds: [Float], _ old: String = "", _ new: String = "") throws -> String {
                try copy(network, to: hostile) { writer in
                    writer.add("conv1_site.range", Tensor(bounds, shape: [bounds.count]))
                    guard !old.isEmpty, let text = writer.metadata["espalier"] else { return }
                    #expect(text.contains(old), "\(old) is not in \(text)")
                    writer.metadata["espalier"] = text.replacing(old, with: new)
                }
                return message { _ = try NetworkFile(contentsOf: hostile) }
            }
            #expect(try read(range.elements) == "no error")
            for bounds: [Float] in [[.nan, 1], [0, .infinity], [1, 0], [-3e38, 3e38]] {
                #expect(try read(bounds).contains("the range of 'conv1_site' is"), "\(bounds)")
            }
            #expect(try read([0, 1, 2]).contains("has shape"))
            for (old, new) in [
                ("\"axis\":0", "\"axis\":1"), ("\"bits\":8", "\"bits\":90"),
                ("\"folded\":true", "\"folded\":false"), ("\"symmetric\":true", "\"symmetric\":3"),
            ] {
                #expect(try read(range.elements, old, new) != "no error", "\(new)")
            }
            // Where the checkpoint says that it was quantized elsewhere, or not, a resume refuses it.
            let last = folder + "/run/student/last.safetensors"
            let good = try #require(FileManager.default.contents(atPath: last))
            try FileManager.default.removeItem(atPath: folder + "/run/result.json")
            for (key, old, new) in [
                ("state", "\"quantizedAt\":7", "\"quantizedAt\":6"),
                ("state", "\"quantizedAt\":7,", ""), ("optimizer_step", "5", "12"),
                ("state", "\"quantizedAt\":7", "\"quantizedAt\":-9223372036854775808"),
            ] {
                try copy(last, to: last) { writer in
                    writer.add("conv1_site.range", range)
                    writer.metadata["state"]?.replace(
                        "\"isComplete\":true", with: "\"isComplete\":false")
                    #expect(writer.metadata[key]?.contains(old) == true, "\(key) \(old)")
                    writer.metadata[key]?.replace(old, with: new)
                }
                let problem = message {
                    try tiny.run("run", set: TinyRun.quantized, resumes: true)
                }
                #expect(problem.contains("position does not fit"), "\(new): \(problem)")
                try good.write(to: URL(fileURLWithPath: last))
            }
        }
    }
}

extension ParameterSet {
    fileprivate var maskFingerprints: [String: UInt64] {
        entries.reduce(into: [:]) { $0[$1.name] = $1.parameter.mask?.fingerprint }
    }
}
