import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import Testing

/// Parameters that are held as their live entries: the same network, trained the same way.
@Suite struct LiveWeightTests {
    private struct Net {
        let first: Linear
        let second: Linear
        let third: Linear
        let parameters: ParameterSet

        init(sparsity: Int, holds: Bool) {
            first = Linear(inputs: 70, outputs: 96, random: RandomStream(seed: 1))
            second = Linear(inputs: 96, outputs: 80, random: RandomStream(seed: 2))
            third = Linear(inputs: 80, outputs: 5, random: RandomStream(seed: 3))
            parameters = ParameterSet([
                ("a", first.weight), ("b", second.weight), ("c", third.weight),
                ("d", first.bias ?? Parameter(.zeros([1]))),
                ("e", second.bias ?? Parameter(.zeros([1]))),
            ])
            for layer in [first, second] {
                let random = RandomStream(seed: UInt64(layer.weight.shape[0]))
                let draws = random.uniform(layer.weight.shape.elementCount)
                let mask = Mask(shape: layer.weight.shape) { draws[$0] * 100 >= Float(sparsity) }
                layer.weight.setMask(mask)
                guard holds else { continue }
                layer.weight.lockMask()
                layer.weight.holdLiveEntries(LivePattern(mask))
            }
        }

        func loss(_ tape: Tape, _ x: Tensor, _ classes: IndexTensor) -> Value {
            let hidden = tape.segment([tape.input(x)]) { second(first($0[0]).relu()) }
            return third(hidden + hidden.tanh()).crossEntropy(classes)
        }
    }

    private let x = Tensor(RandomStream(seed: 7).normal(150 * 70), shape: [150, 70])
    private let classes = IndexTensor((0..<150).map { Int32($0 % 5) })

    @Test(arguments: [50, 90, 99], [false, true])
    func lossesAreThoseOfTheMaskedComputation(_ sparsity: Int, _ recomputes: Bool) throws {
        func losses(holds: Bool, parts: Int) -> (losses: [Float], values: [Tensor]) {
            let net = Net(sparsity: sparsity, holds: holds)
            var optimizer = AdamW()
            var losses: [Float] = []
            for _ in 0..<200 {
                var (gradients, sum) = (Gradients(), Float(0))
                for part in 0..<parts {
                    let rows = part * 150 / parts..<(part + 1) * 150 / parts
                    let share = Float(rows.count) / 150
                    let tape = Tape(mode: .training, recomputes: recomputes && holds)
                    let loss = net.loss(tape, x.rows(rows), classes.rows(rows))
                    sum += share * loss.tensor.scalar
                    tape.addGradients(of: loss, times: share, to: &gradients)
                }
                losses.append(sum)
                optimizer.update(net.parameters, with: gradients, rate: 1e-3)
            }
            return (losses, net.parameters.entries.map(\.parameter.value))
        }
        let masked = losses(holds: false, parts: 1)
        #expect(masked.losses[199] < (sparsity == 99 ? 0.95 : 0.7) * masked.losses[0])
        for parts in [1, 3] {
            let live = losses(holds: true, parts: parts)
            for (a, b) in zip(masked.losses, live.losses) {
                #expect(abs(a - b) < 1e-3 * abs(a) + 1e-4)
            }
            for (a, b) in zip(masked.values, live.values) {
                // Masked entries are +0 in both.
                for (a, b) in zip(a.elements, b.elements) { #expect(abs(a - b) < 2e-2) }
            }
        }
    }

    @Test func gradientsAndStateAreThoseOfLiveEntries() throws {
        let net = Net(sparsity: 90, holds: true)
        let tape = Tape(mode: .training)
        let gradients = tape.gradients(of: net.loss(tape, x, classes))
        let gradient = try #require(gradients[net.first.weight])
        let live = try #require(net.first.weight.mask).liveCount
        #expect(gradient.count == live && net.first.weight.held.count == live)
        var optimizer = AdamW()
        optimizer.update(net.parameters, with: gradients, rate: 1e-3)
        #expect(optimizer.state.slots["first"]?["a"]?.count == live)
        #expect(net.first.weight.value.shape == [96, 70])
    }

    /// Gradients that are added where they arrived, and written over: those of all who were given the same tensor stay.
    @Test func gradientsInPlaceAreTheirOwn() throws {
        let activations: [ActivationFunction?] = [nil, .gelu, .relu, .tanh]
        func run(holds: Bool) -> [Tensor] {
            let layers = (0..<8).map { index -> Linear in
                let layer = Linear(
                    inputs: 96, outputs: 96, random: RandomStream(seed: UInt64(index)))
                let draws = RandomStream(seed: 9).uniform(96 * 96)
                let mask = Mask(shape: [96, 96]) { draws[$0] > 0.8 }
                layer.weight.setMask(mask)
                if holds {
                    layer.weight.lockMask()
                    layer.weight.holdLiveEntries(LivePattern(mask))
                }
                return layer
            }
            let tape = Tape(mode: .training)
            let x = tape.input(Tensor(RandomStream(seed: 7).normal(150 * 96), shape: [150, 96]))
            func apply(_ index: Int, _ x: Value) -> Value {
                activations[index % 4].map { layers[index](x, $0) } ?? layers[index](x)
            }
            // Each reads what the others read, and all get the gradient of one sum.
            let first = apply(0, x)
            let second = (1..<7).reduce(first) { $0 + apply($1, first) }
            let last = apply(7, second + first)
            let gradients = tape.gradients(of: (last * last + last + second).sum())
            return layers.flatMap { layer in
                [layer.weight, layer.bias].compactMap { parameter in
                    parameter.flatMap { gradients[$0] }.map { gradient in
                        let mask = parameter?.mask
                        var whole = Kernels.converted(gradient, to: .rowMajor)
                        if let mask { Kernels.applyMask(mask.words, to: &whole) }
                        return whole
                    }
                }
            }
        }
        let (masked, live) = (run(holds: false), run(holds: true))
        #expect(masked.count == 16 && live.count == 16)
        for (a, b) in zip(masked, live) {
            let largest = Kernels.largestMagnitude(a)
            for (a, b) in zip(a.elements, b.elements) { #expect(abs(a - b) <= 2e-5 * largest) }
        }
    }

    /// A weight is also met where no sparse kernel is, and where it has codes.
    @Test func otherOpsSeeTheWholeWeight() throws {
        let net = Net(sparsity: 80, holds: true)
        let tape = Tape(mode: .training)
        let square = tape.parameter(net.first.weight) * tape.parameter(net.first.weight)
        let gradients = tape.gradients(of: square.sum())
        let gradient = try #require(gradients[net.first.weight])
        let value = net.first.weight.held
        for (g, w) in zip(0..<gradient.count, 0..<value.count) {
            #expect(abs(gradient.span[g] - 2 * value.span[w]) < 1e-6)
        }
        let quantized = [false, true].map { holds -> [Float] in
            let net = Net(sparsity: 80, holds: holds)
            net.first.weight.quantization = QuantizationScheme(
                bits: 8, isSigned: true, isSymmetric: true, granularity: .channel(axis: 0))
            let tape = Tape(mode: .training)
            let gradients = tape.gradients(of: net.loss(tape, x, classes))
            let gradient = gradients[net.first.weight].map {
                Kernels.converted($0, to: .rowMajor)
            }
            return gradient?.elements ?? []
        }
        #expect(quantized[0].count == 96 * 70)
        for (a, b) in zip(quantized[0], quantized[1]) { #expect(abs(a - b) < 1e-5) }
    }
}
