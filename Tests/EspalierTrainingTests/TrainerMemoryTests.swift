import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// The fields of a stage that change how a step is computed, and not what it computes.
@Suite struct TrainerMemoryTests {
    private static let fields = "epochs: 3, batch: 32, optimizer: {sgd: {rate: 0.1}}"
    private static let convnet = "family: convnet, channels: [4, 8], hidden: 16, dropout: 0.2"

    private func weights(
        _ fields: String, model: String = "family: mlp, hidden: [8]"
    ) throws -> [String: Tensor] {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            try run.run("out", "\(TrainerMemoryTests.fields), \(fields)", model: model)
            let entries = ParameterSet(try run.network("out")).entries
            return Dictionary(
                uniqueKeysWithValues: entries.map { ($0.name, $0.parameter.value) })
        }
    }

    @Test("recompute: the same bytes, dropout and batch norm included")
    func recompute() throws {
        let plain = try weights("recompute: false", model: TrainerMemoryTests.convnet)
        let again = try weights("recompute: true", model: TrainerMemoryTests.convnet)
        #expect(plain.count == again.count && plain.count > 6)
        for (name, tensor) in plain {
            #expect(again[name]?.isIdentical(to: tensor) == true, "\(name)")
        }
    }

    @Test("micro_batches: the weights of the whole batch, within rounding", arguments: [2, 5, 32])
    func microBatches(_ parts: Int) throws {
        let whole = try weights("micro_batches: 1")
        let cut = try weights("micro_batches: \(parts)")
        for (name, tensor) in whole {
            let other = try #require(cut[name]).elements
            for (a, b) in zip(tensor.elements, other) { #expect(abs(a - b) < 1e-4, "\(name)") }
        }
    }

    @Test("micro_batches count no steps: the rates of the schedule stay")
    func schedule() throws {
        try Fixtures.withFolder { folder in
            let run = try FieldRun(in: folder)
            let fields = TrainerMemoryTests.fields + ", schedule: linear"
            let whole = try run.run("whole", fields)
            let cut = try run.run("cut", fields + ", micro_batches: 4")
            #expect(whole.map(\.rate) == cut.map(\.rate) && whole.map(\.step) == cut.map(\.step))
        }
    }

    @Test("precision: bf16 is near float, and is not float")
    func precision() throws {
        let float = try weights("precision: float")
        let half = try weights("precision: bf16")
        var differs = false
        for (name, tensor) in float {
            let other = try #require(half[name])
            differs = differs || !other.isIdentical(to: tensor)
            for (a, b) in zip(tensor.elements, other.elements) {
                #expect(abs(a - b) < 0.05, "\(name)")
            }
        }
        #expect(differs)
    }

    @Test("precision: bf16 learns as float does, whichever way pairs are multiplied")
    func halves() throws {
        func losses(_ precision: String, _ halves: HalfProducts) throws -> [Double] {
            try HalfProducts.$chosen.withValue(halves) {
                try Fixtures.withFolder { folder in
                    try FieldRun(in: folder).run(
                        "out",
                        "epochs: 8, batch: 16, optimizer: {sgd: {rate: 0.1}}, "
                            + "precision: \(precision)", model: "family: mlp, hidden: [24, 16]"
                    ).map(\.loss)
                }
            }
        }
        let float = try losses("float", .widened)
        let widened = try losses("bf16", .widened)
        let native = try losses("bf16", .native)
        #expect(try losses("bf16", .native) == native)
        #expect(native != widened && widened != float && float.count == 8)
        #expect(float[7] < 0.9 * float[0])
        for epoch in float.indices {
            #expect(abs(widened[epoch] - float[epoch]) < 0.02 * float[0])
            #expect(abs(native[epoch] - float[epoch]) < 0.02 * float[0])
            #expect(abs(native[epoch] - widened[epoch]) < 0.01 * float[0])
        }
    }

    @Test(
        "faults are found before the first step",
        arguments: [
            ("micro_batches: 33", "cannot cut a batch of 32 into 33 parts"),
            ("micro_batches: 0", "micro_batches"), ("precision: half", "precision"),
            ("recompute: yes please", "recompute"),
        ])
    func faults(_ field: String, _ message: String) throws {
        let error = #expect(throws: (any Error).self) { try weights(field) }
        #expect(error.map { "\($0)".contains(message) } ?? false)
    }
}
