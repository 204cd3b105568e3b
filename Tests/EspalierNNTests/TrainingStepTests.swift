import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Whole steps of a transformer whose encoder is sparse.
@Suite struct TrainingStepTests {
    @Test func threadsDoNotChangeTheBytes() async {
        // The number of threads is the process's.
        await #expect(processExitsWith: .success) {
            var first = try TransformerSteps()
            let one = first.run(20, threads: 1)
            for _ in 0..<2 {
                var again = try TransformerSteps()
                let two = again.run(20, threads: 2)
                precondition(two.losses == one.losses)
                for (a, b) in zip(one.values, two.values) { precondition(a.isIdentical(to: b)) }
            }
            precondition(one.losses[19] < 0.5 * one.losses[0])
        }
    }

    @Test func aSteadyStepAsksTheSystemForNothing() async {
        await #expect(processExitsWith: .success) {
            var steps = try TransformerSteps()
            // How much of the scratch of two threads is in use at once is chance.
            _ = steps.run(3, threads: 1)
            let before = BufferPool.shared.statistics.systemAllocations
            _ = steps.run(10, threads: 1)
            precondition(BufferPool.shared.statistics.systemAllocations == before)
        }
    }
}

private struct TransformerSteps {
    let model: BertClassifier
    let parameters: ParameterSet
    var optimizer = AdamW()
    private let tokens: TokenBatch
    private let classes = IndexTensor((0..<9).map { Int32($0 % 3) })

    init() throws {
        let configuration = BertConfiguration(
            vocabulary: 97, hidden: 64, layers: 2, heads: 4, intermediate: 160, positions: 40)
        model = try BertClassifier(configuration, classes: 3, random: RandomStream(seed: 1))
        parameters = ParameterSet(model)
        let draws = RandomStream(seed: 2).uniform(9 * 37)
        tokens = TokenBatch(
            ids: IndexTensor(draws.map { Int32($0 * 97) }, shape: [9, 37]),
            mask: Tensor((0..<9 * 37).map { $0 % 37 < 37 - $0 / 37 ? 1 : 0 }, shape: [9, 37]))
        for (index, entry) in parameters.entries.enumerated()
        where entry.name.contains("encoder") && entry.parameter.shape.rank == 2 {
            let shape = entry.parameter.shape
            let draws = RandomStream(seed: UInt64(index)).uniform(shape.elementCount)
            let mask = Mask(shape: shape) { draws[$0] < 0.1 }
            entry.parameter.setMask(mask)
            entry.parameter.lockMask()
            // Whether that pays at so small a size is not the question.
            if entry.parameter.held.layout == .rowMajor {
                entry.parameter.holdLiveEntries(LivePattern(mask))
            }
        }
    }

    mutating func run(_ count: Int, threads: Int) -> (losses: [Float], values: [Tensor]) {
        let width = ThreadPool.shared.width
        ThreadPool.shared.width = threads
        defer { ThreadPool.shared.width = width }
        var losses: [Float] = []
        for _ in 0..<count {
            let tape = Tape(mode: .training, random: RandomStream(seed: 3))
            let loss = model(tokens, on: tape).crossEntropy(classes)
            losses.append(loss.tensor.scalar)
            optimizer.update(parameters, with: tape.gradients(of: loss), rate: 3e-3)
        }
        return (losses, parameters.entries.map(\.parameter.value))
    }
}
