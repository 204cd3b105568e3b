import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

@Suite struct NetworkQuantizationTests {
    private static let architectures: [Architecture] = [
        .convnet(channels: [5, 6], hidden: 7, dropout: 0.1),
        .convnet(channels: [5], hidden: 0, dropout: 0), .mlp(hidden: [9, 8], dropout: 0.2),
    ]

    private func trained(_ architecture: Architecture) throws -> Network {
        let network = try Network(
            architecture, input: [8, 8, 2], classes: 3, random: RandomStream(seed: 2))
        let set = ParameterSet(network)
        let name = set.entries.last { $0.parameter.shape.rank >= 2 }?.name ?? ""
        set[name]?.setMask(Mask(shape: set[name]?.shape ?? []) { $0 % 4 != 1 })
        set[name]?.lockMask()
        var optimizer = AdamW()
        for step in 0..<5 {
            let tape = Tape(mode: .training, random: RandomStream(seed: UInt64(step)))
            let x = tape.input(Fixtures.normal([6, 8, 8, 2], seed: UInt64(step)))
            let loss = network(x).crossEntropy(IndexTensor([0, 1, 2, 0, 1, 2]))
            RunningMoments.fold(tape.batchStatistics)
            optimizer.update(set, with: tape.gradients(of: loss), rate: 0.02)
        }
        return network
    }

    private func logits(_ network: Network, _ x: Tensor) -> [Float] {
        network(Tape(mode: .evaluation, isRecording: false).input(x)).tensor.elements
    }

    @Test(arguments: architectures) func closeToTheNetworkOfFloats(_ architecture: Architecture)
        throws
    {
        let network = try trained(architecture)
        let quantized = try network.quantized(NetworkQuantization())
        let x = Fixtures.normal([9, 8, 8, 2], seed: 77)
        let tape = Tape(mode: .evaluation, isRecording: false, observesRanges: true)
        _ = quantized(tape.input(x))
        QuantizationSite.fold(tape.observedRanges)
        let (plain, seen) = (logits(network, x), logits(quantized, x))
        let size = plain.map(\.magnitude).max() ?? 0
        let error = zip(plain, seen).map { ($0 - $1).magnitude }.max() ?? 0
        #expect(error < 0.05 * size && error > 0, "\(error) of \(size)")
        // A ReLU's range begins at 0.
        for (name, site) in quantized.sites where name != "input_site" {
            #expect(site.movingRange.low == 0 && site.movingRange.high > 0)
        }
    }

    @Test func whatIsKept() throws {
        let network = try trained(Self.architectures[0])
        let own = ParameterSet(network)
        own["norm1.bias"]?.isTrainable = false
        own["hidden.weight"]?.isTrainable = false
        let quantized = try network.quantized(NetworkQuantization(per: .tensor))
        let set = ParameterSet(quantized)
        #expect(
            set.entries.map(\.name) == [
                "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "hidden.weight",
                "hidden.bias", "head.weight", "head.bias",
            ])
        #expect(
            set.buffers.map(\.name) == [
                "input_site.range", "conv1_site.range", "conv2_site.range", "hidden_site.range",
            ])
        for entry in set.entries {
            let isWeight = entry.name.hasSuffix(".weight")
            let expected = isWeight ? QuantizationScheme.weights(bits: 8, per: .tensor) : nil
            #expect(entry.parameter.quantization == expected, "\(entry.name)")
            let isFrozen = ["conv1.bias", "hidden.weight"].contains(entry.name)
            #expect(entry.parameter.isTrainable == !isFrozen, "\(entry.name)")
        }
        #expect(set["head.weight"]?.mask == own["head.weight"]?.mask)
        #expect(set["head.weight"]?.mask != nil && set["head.weight"]?.isMaskLocked == true)
        // The network of floats is what it was.
        #expect(own["conv1.weight"]?.quantization == nil && network.sites.isEmpty)
        #expect(quantized.foldedNames.first { $0.before == "norm2.bias" }?.now == "conv2.bias")
        #expect(network.foldedNames.isEmpty)
    }

    @Test func sitesOfALinearNetwork() throws {
        let network = try trained(Self.architectures[2]).quantized(NetworkQuantization())
        #expect(network.sites.map(\.name) == ["input_site", "hidden1_site", "hidden2_site"])
    }

    @Test func aStepsForwardIsPure() throws {
        let network = try trained(Self.architectures[0]).quantized(NetworkQuantization())
        let set = ParameterSet(network)
        let x = Fixtures.normal([4, 8, 8, 2], seed: 5)
        for _ in 0..<2 {
            let before = set.buffers.map(\.buffer.value)
            let tapes = (0..<2).map { _ in Tape(mode: .training, random: RandomStream(seed: 3)) }
            let outputs = tapes.map { network($0.input(x)).tensor }
            #expect(outputs[0].isIdentical(to: outputs[1]))
            for (old, new) in zip(before, set.buffers) {
                #expect(new.buffer.value.isIdentical(to: old), "\(new.name)")
            }
            // Each place once, in order.
            let owners = tapes[0].observedRanges.map { ObjectIdentifier($0.owner) }
            #expect(owners == network.sites.map { ObjectIdentifier($0.site) })
            QuantizationSite.fold(tapes[0].observedRanges)
        }
        // Behind a ReLU the lowest code is 0.
        #expect(network.sites.dropFirst().allSatisfy { $0.site.parameters?.zeroPoints == [0] })
    }

    @Test func maximaKeepTheirCodes() throws {
        let network = try trained(Self.architectures[1]).quantized(NetworkQuantization())
        for (index, (_, site)) in network.sites.enumerated() {
            site.range.value = Tensor([index == 0 ? -2 : 0, 2], shape: [2])
        }
        let site = network.sites[1].site
        let x = Tape(mode: .evaluation).input(Fixtures.normal([1, 4, 4, 1], seed: 1).absolute)
        let pooled = MaxPool2D(kernel: 2)(site(x))
        #expect(site(pooled).tensor.isIdentical(to: pooled.tensor))
    }

    @Test func whatCannotBeQuantized() throws {
        let network = try trained(Self.architectures[0])
        let quantized = try network.quantized(NetworkQuantization())
        #expect(throws: ArchitectureError.self) { try quantized.quantized(NetworkQuantization()) }
        for schemes in [
            NetworkQuantization(weights: .activations(bits: 8), activations: .activations(bits: 8)),
            NetworkQuantization(per: .channel(axis: 1)),
            NetworkQuantization(weights: .weights(bits: 8), activations: .weights(bits: 8)),
        ] {
            #expect(throws: ArchitectureError.self) { try network.quantized(schemes) }
        }
        // Norms between a convolution and its ReLU would need codes of their own.
        #expect(throws: ArchitectureError.self) {
            try Network(
                Self.architectures[0], input: [8, 8, 2], classes: 3,
                quantization: NetworkQuantization(), random: RandomStream(seed: 1))
        }
    }
}

extension Tensor {
    fileprivate var absolute: Tensor { Tensor(elements.map(\.magnitude), shape: shape) }
}
