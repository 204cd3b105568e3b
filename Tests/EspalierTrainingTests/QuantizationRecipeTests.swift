import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// What a recipe may say about quantization, and what is wrong with what it says.
@Suite struct QuantizationRecipeTests {
    private let base = """
        data: {classes: {dataset: tiny, classes: 4, dev: 20%}}
        models: {network: {family: convnet, channels: [4], hidden: 8}}
        stages:
          - {name: one, model: network, on: classes, epochs: 4}
        """

    private func faults(_ tiny: TinyRun, _ stages: [String]) throws -> String {
        let recipe = ([base] + stages.map { "  - {\($0)}" }).joined(separator: "\n")
        try recipe.write(toFile: tiny.path, atomically: false, encoding: .utf8)
        do {
            _ = try Recipe.checked(path: tiny.path)
            return "good"
        } catch { return "\(error)" }
    }

    @Test func whatItSays() throws {
        func quantization(_ text: String) throws -> Recipe.Quantization? {
            try Recipe(text: base, path: "r.yaml", assignments: ["stages.one.quantize=\(text)"])
                .stages[0].quantization
        }
        let all = try #require(
            try quantization(
                "{weights: {bits: 8, per: tensor}, activations: {bits: 8}, from: 40%}"))
        #expect(all.schemes == NetworkQuantization(per: .tensor) && all.begin == .share(0.4))
        let none = try #require(try quantization("{}"))
        #expect(none.schemes == NetworkQuantization() && none.begin == .steps(0))
        #expect(try quantization("{from: 2 epochs}")?.begin == .epochs(2))
        #expect(try quantization("~") == nil)
    }

    @Test func faultsOfTheText() throws {
        for (text, message) in [
            (
                "{from: 40%, weights: {bits: 4}}",
                "r.yaml:5:96: error: 'bits' is 8 in this version, not 4"
            ),
            ("{activations: {bits: 7}}", "'bits' is 8 in this version, not 7"),
            ("{weights: {bits: eight}}", "'bits' must be a whole number, not 'eight'"),
            ("{weights: {per: chanel}}", "'per' cannot be 'chanel'; did you mean 'channel'?"),
            ("{activations: {per: channel}}", "unknown key 'per' in 'activations'"),
            ("{form: 40%}", "unknown key 'form' in 'quantize'; did you mean 'from'?"),
            ("{weigths: {}}", "unknown key 'weigths' in 'quantize'; did you mean 'weights'?"),
            ("{weights: {bit: 8}}", "unknown key 'bit' in 'weights'; did you mean 'bits'?"),
            ("{from: 120%}", "'from' must be like 30%, 200 steps or 2 epochs, not '120%'"),
            ("8", "'quantize' must be a mapping"),
            ("{weights: 8}", "'weights' must be a mapping"),
        ] {
            let stage =
                "\n  - {name: two, start_from: one, on: classes, epochs: 4, quantize: \(text)}"
            var found = "good"
            do {
                _ = try Recipe(text: base + stage, path: "r.yaml")
            } catch { found = "\(error)" }
            #expect(found.contains(message) && found.contains("r.yaml:5:"), "\(text): \(found)")
        }
    }

    @Test func whatDoesNotFit() throws {
        // 77 images in batches of 64: 8 steps.
        let two = "name: two, start_from: one, on: classes, epochs: 4"
        let quantized = two + ", quantize: {}"
        let cases: [(stages: [String], message: String)] = [
            ([quantized], "good"), ([two + ", quantize: {from: 100%}, select: last"], "good"),
            ([two + ", prune: {to: 50%, during: [0%, 40%]}, quantize: {from: 60%}"], "good"),
            ([quantized, "name: three, start_from: two, on: classes, epochs: 1"], "good"),
            (
                [two + ", prune: {to: 50%, during: [0%, 50%]}, quantize: {from: 50%}"],
                "pruning ends at step 4, 'quantize' begins at step 4; it must begin later"
            ),
            (
                [two + ", quantize: {from: 9 steps}"],
                "'quantize' begins at step 9, the stage ends after 8"
            ),
            (
                [two + ", quantize: {from: 4 epochs}"],
                "there is no best pass of it; say `select: last`"
            ),
            (
                [two + ", quantize: {from: 100%}, select: last, early_stop: {patience: 2}"],
                "'early_stop' counts passes of the quantized network"
            ),
            (
                [quantized, "name: three, start_from: two, on: classes, epochs: 1, quantize: {}"],
                "'two' is quantized already and stays so; leave out 'quantize'"
            ),
            (
                [
                    quantized,
                    "name: three, start_from: two, model: network, on: classes, epochs: 1",
                ],
                "'two' is quantized, which its own architecture is made for; leave out 'model'"
            ),
            (
                [two + ", quantize: {}, freeze: [\"norm2.*\"]"],
                "'freeze' 'norm2.*' matches no parameter"
            ),
            (
                [
                    quantized,
                    "name: three, start_from: two, on: classes, epochs: 1, freeze: [\"norm1.*\"]",
                ],
                "good"
            ),
        ]
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            for (stages, message) in cases {
                let found = try faults(tiny, stages)
                #expect(found.contains(message), "\(stages): \(found)")
                #expect(
                    found == "good" || found.contains("tiny.yaml:\(4 + stages.count):"), "\(found)")
            }
        }
    }

    @Test func aQuantizedFileAsStart() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run", set: TinyRun.quantized)
            func start(_ more: String) throws -> String {
                try faults(
                    tiny,
                    [
                        "name: two, start_from: \(folder)/run/student, on: classes, epochs: 4"
                            + more
                    ])
            }
            #expect(try start("") == "good")
            #expect(try start(", quantize: {}").contains("is quantized already"))
        }
    }
}
