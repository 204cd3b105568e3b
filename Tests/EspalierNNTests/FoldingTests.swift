import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// Norms folded into convolutions.
@Suite struct FoldingTests {
    private func trained() throws -> Network {
        let network = try Network(
            .convnet(channels: [5, 6], hidden: 7, dropout: 0.1), input: [8, 8, 2], classes: 3,
            random: RandomStream(seed: 2))
        let set = ParameterSet(network)
        set["conv2.weight"]?.setMask(
            Mask(shape: set["conv2.weight"]?.shape ?? []) { $0 % 4 != 1 })
        set["conv2.weight"]?.lockMask()
        // A few steps, so that scales, shifts and running statistics are none of their beginnings. A negative scale
        // turns signs, also those of zeros.
        set["norm2.weight"]?.update { $0 = Tensor($0.elements.map { -$0 }, shape: $0.shape) }
        var optimizer = AdamW()
        for step in 0..<5 {
            let tape = Tape(mode: .training, random: RandomStream(seed: UInt64(step)))
            let x = tape.input(Fixtures.normal([6, 8, 8, 2], seed: UInt64(step)))
            let loss = network(x).crossEntropy(IndexTensor([0, 1, 2, 0, 1, 2]))
            RunningMoments.fold(tape.batchStatistics)
            optimizer.update(set, with: tape.gradients(of: loss), rate: 0.05)
        }
        return network
    }

    @Test func sameFunctionWithoutNorms() throws {
        let network = try trained()
        let folded = try network.folded()
        let x = Fixtures.normal([9, 8, 8, 2], seed: 77)
        func run(_ network: Network) -> Tensor {
            network(Tape(mode: .evaluation, isRecording: false).input(x)).tensor
        }
        for (a, b) in zip(run(network).elements, run(folded).elements) {
            #expect(abs(a - b) <= 1e-4 * max(1, abs(a)))
        }
        #expect(!ParameterSet(folded).entries.contains { $0.name.hasPrefix("norm") })
        let count = try folded.architecture.parameterCount(input: folded.input, classes: 3)
        #expect(
            count == ParameterSet(folded).entries.reduce(0) { $0 + $1.parameter.shape.elementCount }
        )
    }

    @Test func masksAreKept() throws {
        let network = try trained()
        let folded = try network.folded()
        let (before, after) = (
            try #require(ParameterSet(network)["conv2.weight"]),
            try #require(ParameterSet(folded)["conv2.weight"])
        )
        #expect(before.mask == after.mask && after.isMaskLocked)
        let values = after.value.elements
        for index in values.indices where !(after.mask?.isLive(index) ?? true) {
            #expect(values[index].bitPattern == 0)
        }
    }

    @Test func architecturesAsJSON() throws {
        for architecture in [
            Architecture.convnet(channels: [4, 8], hidden: 0, dropout: 0.25),
            .convnet(channels: [1], hidden: 3, dropout: 0, isFolded: true),
            .mlp(hidden: [5, 6], dropout: 0), .resnet(depth: 20),
        ] {
            let json = try JSONEncoder().encode(architecture)
            #expect(try JSONDecoder().decode(Architecture.self, from: json) == architecture)
        }
        let short = Data(#"{"family":"convnet","channels":[2],"hidden":1}"#.utf8)
        #expect(
            try JSONDecoder().decode(Architecture.self, from: short)
                == .convnet(channels: [2], hidden: 1, dropout: 0))
    }

    @Test func nothingToFold() throws {
        let network = try Network(
            .mlp(hidden: [4], dropout: 0), input: [4], classes: 2, random: RandomStream(seed: 1))
        #expect(throws: ArchitectureError.self) { try network.folded() }
        let folded = try trained().folded()
        #expect(throws: ArchitectureError.self) { try folded.folded() }
    }
}
