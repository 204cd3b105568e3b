import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// The real MiniLM-L6 against transformers. Its weights are fetched by `scripts/fetch-minilm`.
@Suite struct MiniLMTests {
    /// `ESPALIER_MINILM`, else where the script leaves them.
    private static let weights: String? = {
        let folder =
            ProcessInfo.processInfo.environment["ESPALIER_MINILM"]
            ?? Fixtures.packageRoot + "/.build/minilm"
        let exists = FileManager.default.fileExists(atPath: folder + "/model.safetensors")
        return exists ? folder : nil
    }()

    private static let golden: String? = GoldenRunner.folders(package: Fixtures.packageRoot)
        .map { $0 + "/minilm/minilm_hidden.safetensors" }
        .first { FileManager.default.fileExists(atPath: $0) }

    @Test(
        .enabled(
            if: weights != nil && golden != nil,
            "no weights: run scripts/fetch-minilm, or set ESPALIER_MINILM to their folder"))
    func hiddenStates() throws {
        guard let folder = Self.weights, let golden = Self.golden else { return }
        let file = try SafeTensors(contentsOf: folder + "/model.safetensors")
        let configuration = try JSONDecoder().decode(
            BertConfiguration.self,
            from: Data(contentsOf: URL(fileURLWithPath: folder + "/config.json")))
        let bert = try Bert(configuration, random: RandomStream(seed: 1))
        let set = ParameterSet(bert)
        let missing = try set.assign { name in
            let stored = "bert." + name
            return file.entries[stored] == nil ? nil : try file.tensor(stored)
        }
        #expect(missing.isEmpty && file.entries.count == set.entries.count)

        let test = try GoldenCase(contentsOf: golden)
        let mask = try test.tensor("input.attention_mask")
        let tape = Tape(mode: .evaluation, isRecording: false)
        let output = bert(
            TokenBatch(ids: try test.integers("input.input_ids"), mask: mask), on: tape)
        let counts = tape.input(mask.reshaped(to: Shape(mask.shape + [1])))
        let mean = (output.last * counts).sum(axes: [1]) / counts.sum(axes: [1])
        let norm = mean.squared().sum(axes: [-1], keepsAxes: true).sqrt()
        var results = [
            "output.last_hidden_state": output.last, "output.pooler_output": output.pooled,
            "output.mean_pooled": mean, "output.sentence_embedding": mean / norm,
        ]
        for index in [0, 1, 3] {
            results["expected.hidden_states.\(index)"] = output.hiddenStates[index]
        }
        #expect(test.results.count == results.count)
        for name in test.results {
            let value = try #require(results[name] ?? nil)
            #expect(try test.difference(name, value.tensor) == nil)
        }
    }
}
