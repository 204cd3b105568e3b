import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// A visit names children by hand; here it is compared with what reflection finds.
@Suite struct VisitTests {
    private struct Found {
        var parameters: Set<ObjectIdentifier> = []
        var buffers: Set<ObjectIdentifier> = []
        private var seen: Set<ObjectIdentifier> = []

        init(_ root: Any) { walk(root) }

        private mutating func walk(_ value: Any) {
            switch value {
            case let parameter as Parameter: parameters.insert(ObjectIdentifier(parameter))
            case let buffer as Buffer: buffers.insert(ObjectIdentifier(buffer))
            default:
                let mirror = Mirror(reflecting: value)
                if mirror.displayStyle == .class,
                    !seen.insert(ObjectIdentifier(value as AnyObject)).inserted
                {
                    return
                }
                for child in mirror.children { walk(child.value) }
            }
        }
    }

    private func expectComplete(_ module: some Module, parameters: Int, buffers: Int) {
        let (set, found) = (ParameterSet(module), Found(module))
        let name = "\(type(of: module))"
        #expect(set.entries.count == parameters, "\(name)")
        #expect(set.buffers.count == buffers, "\(name)")
        #expect(
            Set(set.entries.map { ObjectIdentifier($0.parameter) }) == found.parameters, "\(name)")
        #expect(Set(set.buffers.map { ObjectIdentifier($0.buffer) }) == found.buffers, "\(name)")
        let names = set.entries.map(\.name) + set.buffers.map(\.name)
        #expect(Set(names).count == names.count, "\(names)")
        #expect(names.allSatisfy { !$0.isEmpty && !$0.hasPrefix(".") && !$0.hasSuffix(".") })
    }

    @Test func everyModule() throws {
        let random = RandomStream(seed: 1)
        expectComplete(Linear(inputs: 3, outputs: 2, random: random), parameters: 2, buffers: 0)
        expectComplete(
            Linear(inputs: 3, outputs: 2, bias: false, random: random), parameters: 1, buffers: 0)
        expectComplete(
            Convolution2D(inputs: 3, outputs: 2, kernel: 3, random: random), parameters: 2,
            buffers: 0)
        expectComplete(
            Convolution2D(inputs: 3, outputs: 2, kernel: 3, bias: false, random: random),
            parameters: 1, buffers: 0)
        expectComplete(
            MultiHeadAttention(size: 6, heads: 2, random: random), parameters: 8, buffers: 0)
        expectComplete(BatchNorm(channels: 4), parameters: 2, buffers: 2)
        expectComplete(BatchNorm(channels: 4).running, parameters: 0, buffers: 2)
        expectComplete(MaxPool2D(kernel: 2), parameters: 0, buffers: 0)
        expectComplete(Embedding(count: 3, size: 2, random: random), parameters: 1, buffers: 0)
        expectComplete(LayerNorm(size: 3), parameters: 2, buffers: 0)
        let bert = BertConfiguration(
            vocabulary: 10, hidden: 6, layers: 2, heads: 3, intermediate: 8, positions: 5)
        expectComplete(try Bert(bert, random: random), parameters: 5 + 2 * 16 + 2, buffers: 0)
        expectComplete(
            try BertClassifier(bert, classes: 3, random: random), parameters: 5 + 2 * 16 + 4,
            buffers: 0)
        expectComplete(
            try BertMaskedLM(bert, random: random), parameters: 5 + 2 * 16 + 5, buffers: 0)
        let gpt = GPTConfiguration(vocabulary: 10, hidden: 6, layers: 2, heads: 3, positions: 5)
        expectComplete(
            try GPTLanguageModel(gpt, random: random), parameters: 2 + 2 * 12 + 2, buffers: 0)
        expectComplete(
            try Network(
                .convnet(channels: [4, 6], hidden: 5, dropout: 0.1), input: [8, 8, 3], classes: 10,
                random: random), parameters: 10, buffers: 4)
        expectComplete(QuantizationSite(.activations(bits: 8)), parameters: 0, buffers: 1)
        expectComplete(
            try Network(
                .convnet(channels: [4, 6], hidden: 5, dropout: 0.1, isFolded: true),
                input: [8, 8, 3], classes: 10, quantization: NetworkQuantization(), random: random),
            parameters: 8, buffers: 4)
        expectComplete(
            try Network(.mlp(hidden: [7, 5], dropout: 0), input: [6], classes: 3, random: random),
            parameters: 6, buffers: 0)
        expectComplete(
            ResidualBlock(inputs: 2, outputs: 2, stride: 1, random: random), parameters: 6,
            buffers: 4)
        expectComplete(
            ResidualBlock(inputs: 2, outputs: 3, stride: 2, random: random), parameters: 9,
            buffers: 6)
        expectComplete(GlobalAveragePool(height: 2, width: 3), parameters: 0, buffers: 0)
        // Of 19 convolutions and two shortcuts with a norm each, and the head.
        expectComplete(
            try Network(.resnet(depth: 20), input: [8, 8, 3], classes: 10, random: random),
            parameters: 21 * 3 + 2, buffers: 21 * 2)
    }

    @Test func residualNetworks() throws {
        let network = try Network(
            .resnet(depth: 20), input: [32, 32, 3], classes: 10, random: RandomStream(seed: 1))
        let set = ParameterSet(network)
        // He et al. count 0.27 million in 20 layers; the two shortcuts have 2752 of these.
        let count = set.entries.reduce(0) { $0 + $1.parameter.value.count }
        #expect(count == 272_474)
        #expect(
            try network.architecture.parameterCount(input: [32, 32, 3], classes: 10) == count)
        for name in [
            "conv", "stage1.block1.conv2", "stage2.block1.shortcut", "stage3.block3.conv1",
        ] {
            #expect(set[name + ".weight"] != nil, "\(name)")
        }
        #expect(set["stage2.block1.shortcut.weight"]?.shape == [32, 1, 1, 16])
        for depth in [2, 9, 21, 2_000] {
            #expect(throws: ArchitectureError.self) {
                _ = try Network(
                    .resnet(depth: depth), input: [32, 32, 3], classes: 10,
                    random: RandomStream(seed: 1))
            }
        }
        for input in [[32, 32], [3, 8, 1]] as [Shape] {
            #expect(throws: ArchitectureError.self) {
                _ = try Architecture.resnet(depth: 8).parameterCount(input: input, classes: 2)
            }
        }
        #expect(throws: ArchitectureError.self) { _ = try network.quantized(NetworkQuantization()) }
        #expect(throws: ArchitectureError.self) { _ = try network.folded() }
    }

    @Test func namesAreTheCheckpointsKeys() throws {
        let network = try Network(
            .convnet(channels: [4], hidden: 5, dropout: 0), input: [4, 4, 1], classes: 2,
            random: RandomStream(seed: 1))
        let set = ParameterSet(network)
        #expect(
            set.entries.map(\.name) == [
                "conv1.weight", "norm1.weight", "norm1.bias", "hidden.weight", "hidden.bias",
                "head.weight", "head.bias",
            ])
        #expect(set.buffers.map(\.name) == ["norm1.running.mean", "norm1.running.variance"])
        #expect(set["hidden.weight"]?.shape == [5, 16])
        #expect(set["nothing"] == nil)
    }
}

@Suite struct NetworkTests {
    private let images = Fixtures.normal([3, 8, 8, 2], seed: 5)

    private func network(_ seed: UInt64) throws -> Network {
        try Network(
            .convnet(channels: [4, 6], hidden: 5, dropout: 0.5), input: [8, 8, 2], classes: 10,
            random: RandomStream(seed: seed))
    }

    @Test func aSeedGivesTheSameBytes() throws {
        let (a, b, c) = (try network(1), try network(1), try network(2))
        for (left, right) in zip(ParameterSet(a).entries, ParameterSet(b).entries) {
            #expect(left.parameter.value.isIdentical(to: right.parameter.value), "\(left.name)")
        }
        let weights = [a, c].map { ParameterSet($0)["conv1.weight"]?.value.elements ?? [] }
        #expect(weights[0] != weights[1])
        func run(_ network: Network) -> Tensor {
            network(Tape(mode: .training, random: RandomStream(seed: 3)).input(images)).tensor
        }
        #expect(run(a).shape == [3, 10])
        #expect(run(a).isIdentical(to: run(b)))
    }

    @Test func layersBeginWithTheVarianceTheyShould() {
        let random = RandomStream(seed: 1)
        let he = Linear(inputs: 200, outputs: 300, random: random).weight.value.elements
        let variance = he.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(he.count)
        #expect(abs(variance / 0.01 - 1) < 0.03)
        let uniform = Linear(inputs: 100, outputs: 300, initializer: .uniform, random: random)
            .weight.value.elements
        #expect(uniform.allSatisfy { abs($0) <= 0.1 })
        #expect((uniform.max() ?? 0) > 0.099 && (uniform.min() ?? 0) < -0.099)
    }

    @Test func imagesThatAreTooSmall() {
        let random = RandomStream(seed: 1)
        for input: Shape in [[7, 8, 3], [8, 7, 3], [1, 1, 3], [64], [8, 8]] {
            #expect(throws: ArchitectureError.self) {
                _ = try Network(
                    .convnet(channels: [2, 2, 2], hidden: 4, dropout: 0), input: input, classes: 2,
                    random: random)
            }
        }
        #expect(throws: Never.self) {
            _ = try Network(
                .convnet(channels: [2, 2, 2], hidden: 4, dropout: 0), input: [8, 8, 3], classes: 2,
                random: random)
        }
    }

    @Test func runningMomentsAreFoldedIn() {
        let norm = BatchNorm(channels: 2, momentum: 0.25)
        norm.running.mean.value = Tensor([4, 8], shape: [2])
        let tape = Tape(mode: .training)
        _ = norm(tape.input(Tensor([1, 0, 3, 4], shape: [2, 2])))
        RunningMoments.fold(tape.batchStatistics)
        #expect(norm.running.mean.value.elements == [3.5, 6.5])
        #expect(norm.running.variance.value.elements == [1.25, 2.75])
    }
}
