import EspalierEngine
import EspalierNN
import EspalierTensors
import Testing

/// Parts of a forward that are computed again for the gradient, and parts of a batch that are computed one by one.
@Suite struct SegmentTests {
    @Test(arguments: [(Float(0), false), (0.3, false), (0.3, true)])
    func recomputedGradientsHaveTheSameBits(_ dropout: Float, _ masked: Bool) throws {
        let fixture = try SegmentFixture(dropout: dropout, masked: masked)
        let plain = fixture.step(recomputes: false)
        let again = fixture.step(recomputes: true)
        #expect(plain.loss.bitPattern == again.loss.bitPattern)
        for entry in fixture.parameters.entries {
            let a = try #require(plain.gradients[entry.parameter], "\(entry.name)")
            let b = try #require(again.gradients[entry.parameter], "\(entry.name)")
            #expect(a.isIdentical(to: b), "\(entry.name)")
        }
        #expect(again.seen.statistics.count == 2)
        for (a, b) in zip(plain.seen.statistics, again.seen.statistics) {
            #expect(a.mean.isIdentical(to: b.mean) && a.variance.isIdentical(to: b.variance))
        }
    }

    /// What is kept is one matrix a layer and what the widest segment needs, not all that all layers need.
    @Test func recomputationHoldsLess() throws {
        let network = try Network(
            .mlp(hidden: [Int](repeating: 64, count: 8), dropout: 0.1), input: [64], classes: 4,
            random: RandomStream(seed: 1))
        let peaks = [false, true].map { recomputes in
            Rehearsal.run {
                let tape = Tape(mode: .training, recomputes: recomputes)
                let loss = network(tape.input(.zeros([256, 64]))).crossEntropy(
                    IndexTensor([Int32](repeating: 0, count: 256)))
                _ = tape.gradients(of: loss)
            }.peak
        }
        #expect(Double(peaks[1]) < 0.6 * Double(peaks[0]), "\(peaks)")
    }

    /// Without batch norm, whose batches get smaller, the gradients are those of the whole batch.
    @Test(arguments: [2, 3, 7])
    func partsOfABatchAddUp(_ parts: Int) throws {
        let network = try Network(
            .mlp(hidden: [16], dropout: 0), input: [10], classes: 4, random: RandomStream(seed: 1))
        let x = Tensor(RandomStream(seed: 2).normal(7 * 10), shape: [7, 10])
        let classes = IndexTensor([0, 1, 2, 3, 0, 1, 2])
        func gradients(_ parts: Int) -> Gradients {
            var sum = Gradients()
            for part in 0..<parts {
                let rows = part * 7 / parts..<(part + 1) * 7 / parts
                let tape = Tape(mode: .training)
                let loss = network(tape.input(x.rows(rows))).crossEntropy(classes.rows(rows))
                tape.addGradients(of: loss, times: Float(rows.count) / 7, to: &sum)
            }
            return sum
        }
        let (whole, sum) = (gradients(1), gradients(parts))
        for entry in ParameterSet(network).entries {
            let a = try #require(whole[entry.parameter]).elements
            let b = try #require(sum[entry.parameter]).elements
            let largest = a.map(abs).max() ?? 0
            for (a, b) in zip(a, b) { #expect(abs(a - b) <= 1e-5 * largest, "\(entry.name)") }
        }
    }

    /// Running statistics are those of the whole batch, whatever it is cut into.
    @Test func statisticsOfPartsCombine() throws {
        let norm = BatchNorm(channels: 3)
        let x = Tensor(RandomStream(seed: 5).normal(60 * 3).map { 2 + 3 * $0 }, shape: [60, 3])
        func seen(_ rows: Range<Int>) -> Observations {
            let tape = Tape(mode: .training)
            _ = norm(tape.input(x.rows(rows)))
            return tape.observations
        }
        let whole = seen(0..<60).statistics[0]
        let parts = [0..<20, 20..<45, 45..<60].map { (share: Float($0.count) / 60, seen($0)) }
        let combined = Observations(combining: parts).statistics[0]
        for channel in 0..<3 {
            let (a, b) = (whole.mean.elements[channel], combined.mean.elements[channel])
            #expect(abs(a - b) < 1e-5)
            let (v, w) = (whole.variance.elements[channel], combined.variance.elements[channel])
            // The parts' own variances divide by one less each.
            #expect(abs(v - w) < 0.05 * v)
        }
        let isOwner = combined.owner === norm.running
        #expect(isOwner)
    }

    /// The prediction of a step's memory, against a step in a process of its own.
    @Test func rehearsalPredictsThePeak() async {
        await #expect(processExitsWith: .success) {
            for recomputes in [false, true] {
                let error = try rehearsalError(recomputes: recomputes)
                require(abs(error) < 0.05, "the prediction is off by \(error)")
            }
        }
    }

    @Test func noBlockIsAskedForInTheSteadyState() async {
        await #expect(processExitsWith: .success) {
            let asked = try blocksOfSteadyState()
            require(asked == 0, "\(asked) blocks asked of the system")
        }
    }
}

/// A network with everything that a replay could get wrong: dropout, batch norm, masks.
struct SegmentFixture {
    let network: Network
    let parameters: ParameterSet
    let x: Tensor
    let classes: IndexTensor

    init(dropout: Float, batch: Int = 6, masked: Bool = false) throws {
        network = try Network(
            .convnet(channels: [4, 8], hidden: 12, dropout: dropout, isFolded: false),
            input: [8, 8, 1], classes: 5, random: RandomStream(seed: 3))
        parameters = ParameterSet(network)
        x = Tensor(RandomStream(seed: 4).normal(batch * 64), shape: [batch, 8, 8, 1])
        classes = IndexTensor((0..<batch).map { Int32($0 % 5) })
        guard masked else { return }
        for entry in parameters.entries where entry.parameter.shape.rank > 1 {
            entry.parameter.setMask(Mask(shape: entry.parameter.shape) { $0 % 3 != 0 })
        }
    }

    func step(
        recomputes: Bool, precision: Precision = .float, parts: Int = 1
    ) -> (loss: Float, gradients: Gradients, seen: Observations) {
        var (gradients, loss) = (Gradients(), Float(0))
        var seen: [(share: Float, Observations)] = []
        let count = classes.count
        for part in 0..<parts {
            let rows = part * count / parts..<(part + 1) * count / parts
            let share = Float(rows.count) / Float(count)
            let tape = Tape(
                mode: .training, precision: precision, random: RandomStream(seed: 9),
                recomputes: recomputes)
            let value = network(tape.input(x.rows(rows))).crossEntropy(classes.rows(rows))
            loss += value.tensor.scalar * share
            seen.append((share, tape.observations))
            tape.addGradients(of: value, times: share, to: &gradients)
        }
        return (loss, gradients, Observations(combining: seen))
    }
}

/// The prediction of a step's memory over what it then takes, less 1.
func rehearsalError(recomputes: Bool) throws -> Double {
    let fixture = try SegmentFixture(dropout: 0.1, batch: 256)
    let predicted = Rehearsal.run { _ = fixture.step(recomputes: recomputes) }
    let before = BufferPool.shared.statistics.live
    BufferPool.shared.resetPeak()
    _ = fixture.step(recomputes: recomputes)
    let measured = BufferPool.shared.statistics.peak - before
    return Double(predicted.peak) / Double(measured) - 1
}

/// Blocks that training steps ask of the system after the first three.
func blocksOfSteadyState() throws -> Int {
    let fixture = try SegmentFixture(dropout: 0.1, batch: 64)
    var optimizer = AdamW()
    // How much of the scratch of two threads is in use at once is chance.
    ThreadPool.shared.width = 1
    var before = 0
    for step in 0..<8 {
        if step == 3 { before = BufferPool.shared.statistics.systemAllocations }
        let gradients = fixture.step(recomputes: false).gradients
        optimizer.update(fixture.parameters, with: gradients, rate: 1e-3)
    }
    return BufferPool.shared.statistics.systemAllocations - before
}
