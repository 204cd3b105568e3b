import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Mechanism 10: pruning and distillation.
@Suite struct CompressionTests {
    @Test func T10_1_cubicSchedule() {
        let rule = CubicSparsity(final: 0.9, begin: 0, end: 100, every: 10)
        let expected = [
            0, 0.2439, 0.4392, 0.5913, 0.7056, 0.7875, 0.8424, 0.8757, 0.8928, 0.8991, 0.9,
        ]
        for (index, sparsity) in expected.enumerated() {
            #expect(abs(rule.sparsity(at: 10 * index) - sparsity) < 1e-12)
            // In force until the next update.
            #expect(rule.sparsity(at: 10 * index + 9) == rule.sparsity(at: 10 * index))
        }
        #expect((0...130).filter(rule.isUpdate) == Array(stride(from: 0, through: 100, by: 10)))
        #expect(rule.sparsity(at: 1_000) == 0.9)
        // An end that no period hits is an update all the same.
        let odd = CubicSparsity(initial: 0.3, final: 0.8, begin: 5, end: 12, every: 3)
        #expect((0...20).filter(odd.isUpdate) == [5, 8, 11, 12])
        #expect(odd.sparsity(at: 4) == 0.3 && odd.sparsity(at: 12) == 0.8)
    }

    private let teacher = Tensor([2, 0], shape: [1, 2])
    private let student = Tensor([1, 0], shape: [1, 2])

    @Test func T10_1_distillationLoss() {
        let tape = Tape(mode: .training)
        let x = tape.variable(student)
        let soft = x.distillation(from: teacher, temperature: 2)
        #expect(abs(soft.tensor.scalar - 0.105_378_3) < 1e-6)
        #expect(abs(soft.tensor.scalar / 4 - 0.026_344_6) < 1e-6)
        let hard = x.crossEntropy(IndexTensor([0]))
        #expect(abs(hard.tensor.scalar - 0.313_261_7) < 1e-6)
        let loss = soft.scaled(by: 0.5) + hard.scaled(by: 0.5)
        #expect(abs(loss.tensor.scalar - 0.209_320_0) < 1e-6)
        let gradient = tape.gradients(of: soft, upstream: Tensor(1), for: [x]).values[0].elements
        #expect(abs(gradient[0] + 0.217_198_5) < 1e-6)
        #expect(abs(gradient[1] - 0.217_198_5) < 1e-6)
    }

    @Test func T10_1_magnitudeMaskAndStep() {
        let parameter = Parameter(Tensor([0.5, -0.1, 0.05, -0.7, 0.2, 0.3], shape: [6]))
        let mask = MaskSelection(pattern: .unstructured).masks(
            for: [.init(parameter.value)], sparsity: 0.5)[0]
        #expect((0..<6).filter { !mask.isLive($0) } == [1, 2, 4])
        parameter.setMask(mask)
        var gradients = Gradients()
        gradients[parameter] = Tensor([0.1, 0.2, -0.3, 0.4, 0.5, -0.6], shape: [6])
        var optimizer = SGD()
        optimizer.update(ParameterSet([("w", parameter)]), with: gradients, rate: 0.1)
        let expected: [Float] = [0.49, 0, 0, -0.74, 0, 0.36]
        for (index, value) in parameter.value.elements.enumerated() {
            #expect(abs(value - expected[index]) < 1e-6)
            if !mask.isLive(index) { #expect(value.bitPattern == 0) }
        }
    }

    /// A network with locked masks is trained; nothing that is masked may ever move, in weights or
    /// in state.
    @Test(arguments: [
        AdamW(weightDecay: 0.1) as any Optimizer,
        SGD(momentum: 0.9, weightDecay: 0.01, nesterov: true),
    ])
    func T10_2_lockedPatternOver1000Steps(_ rule: any Optimizer) throws {
        var optimizer = rule
        let network = try Network(
            .convnet(channels: [4], hidden: 9, dropout: 0), input: [4, 4, 2], classes: 3,
            random: RandomStream(seed: 1))
        let set = ParameterSet(network)
        let weights = set.entries.filter { $0.parameter.shape.rank >= 2 }
        let masks = MaskSelection(pattern: .unstructured).masks(
            for: weights.map { .init($0.parameter.value) }, sparsity: 0.7)
        for (entry, mask) in zip(weights, masks) {
            entry.parameter.setMask(mask)
            entry.parameter.lockMask()
        }
        let start = weights.map(\.parameter.value)
        let pattern = masks.map(\.fingerprint)
        let slots = rule is AdamW ? 2 : 1
        for step in 0..<1_000 {
            let random = RandomStream(seed: 2).child(UInt64(step))
            let tape = Tape(mode: .training, random: random)
            let images = Tensor(random.child("images").normal(4 * 32), shape: [4, 4, 4, 2])
            let labels = IndexTensor(random.child("labels").integers(4, below: 3).map(Int32.init))
            let loss = network(tape.input(images)).crossEntropy(labels)
            let gradients = tape.gradients(of: loss)
            optimizer.update(set, with: gradients, rate: 0.01)
            var (violations, checked) = (0, 0)
            for (entry, mask) in zip(weights, masks) {
                let states = optimizer.state.slots.values.compactMap { $0[entry.name] }
                #expect(states.count == slots)
                for tensor in states + [entry.parameter.value] {
                    let elements = tensor.span
                    for index in elements.indices where !mask.isLive(index) {
                        checked += 1
                        if elements[index].bitPattern != 0 { violations += 1 }
                    }
                }
            }
            #expect(violations == 0 && checked > 100, "step \(step)")
            #expect(weights.map { $0.parameter.mask?.fingerprint } == pattern, "step \(step)")
            if violations > 0 { return }
        }
        for ((entry, mask), start) in zip(zip(weights, masks), start) {
            let (before, after) = (start.elements, entry.parameter.value.elements)
            let moved = before.indices.count { mask.isLive($0) && before[$0] != after[$0] }
            #expect(moved == mask.liveCount, "\(entry.name)")
            #expect(after.allSatisfy { $0.isFinite })
        }
    }

    @Test(arguments: [1, 2, 4.5] as [Float]) func T10_3_distillationGradient(_ temperature: Float) {
        let teacher = Fixtures.normal([6, 5], seed: 1)
        let worst = GradientCheck.worstError(
            of: { $0[0].distillation(from: teacher, temperature: temperature) },
            at: [Fixtures.normal([6, 5], seed: 2)])
        #expect(worst.error < 2e-3, "\(worst.place)")
        let combined = GradientCheck.worstError(
            of: {
                $0[0].distillation(from: teacher, temperature: temperature).scaled(by: 0.7)
                    + $0[0].crossEntropy(IndexTensor([0, 1, 2, 3, 4, 0])).scaled(by: 0.3)
            }, at: [Fixtures.normal([6, 5], seed: 3)])
        #expect(combined.error < 2e-3, "\(combined.place)")
    }
}
