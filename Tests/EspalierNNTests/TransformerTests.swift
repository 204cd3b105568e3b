import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

@Suite struct TransformerTests {
    private let configuration = BertConfiguration(
        vocabulary: 13, hidden: 8, layers: 2, heads: 2, intermediate: 12, positions: 9)
    private let ids = IndexTensor([1, 5, 3, 0, 7, 2, 12, 4], shape: [2, 4])

    @Test func aParameterMetTwiceIsOne() throws {
        let set = ParameterSet(try BertMaskedLM(configuration, random: RandomStream(seed: 1)))
        #expect(
            set.aliases == [
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            ])
        #expect(!set.entries.contains { $0.name.contains("decoder") })
        let decoder = try #require(set["cls.predictions.decoder.weight"])
        #expect(decoder === set["bert.embeddings.word_embeddings.weight"])
        #expect(
            Set(set.entries.map { ObjectIdentifier($0.parameter) }).count == set.entries.count)
        // A tensor that a file holds under the further name only.
        let table = Fixtures.normal([13, 8], seed: 3)
        let missing = try set.assign { $0 == "cls.predictions.decoder.weight" ? table : nil }
        #expect(decoder.value.isIdentical(to: table) && missing.count == set.entries.count - 1)
        #expect(throws: ParameterError.self) {
            try set.assign { _ in Tensor.zeros([1, 2, 3, 4]) }
        }
    }

    @Test func paddingChangesNothing() throws {
        let model = try BertClassifier(configuration, classes: 3, random: RandomStream(seed: 2))
        func logits(_ tokens: TokenBatch) -> [Float] {
            model(tokens, on: Tape(mode: .evaluation, isRecording: false)).tensor.elements
        }
        let short = logits(TokenBatch(ids: IndexTensor([4, 9, 2], shape: [1, 3])))
        let padded = logits(
            TokenBatch(
                ids: IndexTensor([4, 9, 2, 7, 7], shape: [1, 5]),
                mask: Tensor([1, 1, 1, 0, 0], shape: [1, 5])))
        for (a, b) in zip(short, padded) { #expect(abs(a - b) < 1e-5) }
        let typed = logits(
            TokenBatch(
                ids: IndexTensor([4, 9, 2], shape: [1, 3]),
                types: IndexTensor([0, 0, 0], shape: [1, 3])))
        for (a, b) in zip(short, typed) { #expect(abs(a - b) < 1e-5) }
    }

    @Test func decodersDoNotSeeWhatComes() throws {
        let model = try GPTLanguageModel(
            GPTConfiguration(vocabulary: 13, hidden: 8, layers: 2, heads: 2, positions: 9),
            random: RandomStream(seed: 2))
        func logits(_ ids: [Int32]) -> [Float] {
            let tokens = TokenBatch(ids: IndexTensor(ids, shape: [1, 4]))
            return model(tokens, on: Tape(mode: .evaluation)).tensor.elements
        }
        let (a, b) = (logits([3, 1, 4, 2]), logits([3, 1, 9, 8]))
        #expect(a[..<26] == b[..<26])
        #expect(a[26...] != b[26...])
    }

    @Test func placesOfTheMaskedModel() throws {
        let model = try BertMaskedLM(configuration, random: RandomStream(seed: 2))
        let tape = Tape(mode: .evaluation, isRecording: false)
        let (tokens, places) = (TokenBatch(ids: ids), IndexTensor([6, 1]))
        let (all, some) = (model(tokens, on: tape), model(tokens, at: places, on: tape))
        #expect(all.shape == [2, 4, 13] && some.shape == [2, 13])
        let elements = all.tensor.elements
        for (a, b) in zip(some.tensor.elements, elements[6 * 13..<7 * 13] + elements[13..<26]) {
            #expect(abs(a - b) < 1e-5)
        }
    }

    @Test func nextTokens() {
        let mask = Tensor([1, 1, 1, 1, 1, 1, 0, 0], shape: [2, 4])
        #expect(TokenBatch(ids: ids).nextTokens().elements == [5, 3, 0, -100, 2, 12, 4, -100])
        #expect(
            TokenBatch(ids: ids, mask: mask).nextTokens(ignored: -1).elements
                == [5, 3, 0, -1, 2, -1, -1, -1])
    }

    @Test func dropoutIsDrawnAndOnlyInTraining() throws {
        let model = try BertClassifier(configuration, classes: 3, random: RandomStream(seed: 2))
        func logits(_ mode: Mode, _ seed: UInt64) -> [Float] {
            let tape = Tape(mode: mode, random: RandomStream(seed: seed))
            return model(TokenBatch(ids: ids), on: tape).tensor.elements
        }
        #expect(logits(.evaluation, 1) == logits(.evaluation, 2))
        #expect(logits(.training, 1) == logits(.training, 1))
        #expect(logits(.training, 1) != logits(.training, 2))
    }

    @Test func configurationsOfTransformers() throws {
        let json = """
            {"vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 4,
             "hidden_act": "gelu_new", "intermediate_size": 7, "model_type": "bert"}
            """
        let read = try JSONDecoder().decode(BertConfiguration.self, from: Data(json.utf8))
        #expect(
            read
                == BertConfiguration(
                    vocabulary: 50, hidden: 12, layers: 1, heads: 4, intermediate: 7,
                    activation: .geluTanh))
        let again = try JSONDecoder().decode(
            BertConfiguration.self, from: JSONEncoder().encode(read))
        #expect(again == read)
        for wrong in [
            BertConfiguration(hidden: 10, heads: 3), BertConfiguration(heads: 0),
            BertConfiguration(vocabulary: 1 << 24, hidden: 1 << 24, heads: 1),
            BertConfiguration(dropout: 1), BertConfiguration(layers: -1),
        ] {
            #expect(throws: ArchitectureError.self) {
                _ = try Bert(wrong, random: RandomStream(seed: 1))
            }
        }
        #expect(throws: ArchitectureError.self) {
            _ = try GPT(GPTConfiguration(hidden: 7, heads: 2), random: RandomStream(seed: 1))
        }
    }
}
