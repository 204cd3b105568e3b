import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

/// Batch norms with what follows them in one op.
@Suite struct FusedNormTests {
    private final class Owner {}

    private func run(
        _ inputs: [Tensor], mode: Mode, _ body: ([Value]) -> Value
    ) -> (tensors: [Tensor], statistics: [Tensor]) {
        let tape = Tape(mode: mode)
        let values = inputs.map { tape.variable($0) }
        let y = body(values)
        let statistics = tape.batchStatistics.flatMap { [$0.mean, $0.variance] }
        let dy = Fixtures.normal(y.shape, seed: 4)
        return (
            [y.tensor] + tape.gradients(of: y, upstream: dy, for: values).values, statistics
        )
    }

    @Test(arguments: [[2, 3, 5, 17], [7, 1], [2_050, 64], [1, 16]] as [Shape], [false, true])
    func likeTheOpsOneByOne(_ shape: Shape, _ adds: Bool) {
        let channels = shape[shape.rank - 1]
        let inputs =
            [Fixtures.normal(shape, seed: 1), Fixtures.normal([channels], seed: 2)]
            + [Fixtures.normal([channels], seed: 3), Fixtures.normal(shape, seed: 5)]
        let running = Op.BatchNorm.Moments(
            mean: Fixtures.normal([channels], seed: 6),
            variance: Tensor(repeating: 1.3, shape: [channels]))
        let owner = Owner()
        for mode in [Mode.training, .evaluation] {
            for isAffine in [true, false] {
                func norm(_ v: [Value], relu: Bool, adding other: Value?) -> Value {
                    v[0].batchNorm(
                        weight: isAffine ? v[1] : nil, bias: isAffine ? v[2] : nil,
                        running: running, epsilon: 1e-3, owner: owner, relu: relu, adding: other)
                }
                let fused = run(inputs, mode: mode) {
                    norm($0, relu: true, adding: adds ? $0[3] : nil)
                }
                let plain = run(inputs, mode: mode) {
                    let y = norm($0, relu: false, adding: nil)
                    return (adds ? y + $0[3] : y).relu()
                }
                #expect(fused.tensors[0].elements == plain.tensors[0].elements)
                for (a, b) in zip(fused.statistics, plain.statistics) {
                    #expect(a.isIdentical(to: b))
                }
                for (index, (a, b)) in zip(fused.tensors, plain.tensors).enumerated() {
                    #expect(a.shape == b.shape)
                    let size = max(b.elements.map(\.magnitude).max() ?? 0, 1)
                    let worst = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
                    #expect(worst <= 4e-6 * size, "result \(index), \(mode)")
                }
            }
        }
    }

    /// Chunks of rows are joined: mean and variance of numbers far from zero.
    @Test func momentsOfManyRows() {
        let (rows, channels) = (9_001, 19)
        let x = Tensor(
            RandomStream(seed: 3).normal(rows * channels).enumerated().map {
                $1 + 100 * Float($0 % channels)
            }, shape: [rows, channels])
        let tape = Tape(mode: .training)
        let none = Op.BatchNorm.Moments(mean: .zeros([channels]), variance: .zeros([channels]))
        let owner = Owner()
        _ = tape.variable(x).batchNorm(
            weight: nil, bias: nil, running: none, epsilon: 1e-5, owner: owner)
        let (mean, variance) = (
            tape.batchStatistics[0].mean.elements, tape.batchStatistics[0].variance.elements
        )
        for channel in 0..<channels {
            let values = (0..<rows).map { Double(x.span[$0 * channels + channel]) }
            let truth = values.reduce(0, +) / Double(rows)
            let squares = values.reduce(0) { $0 + ($1 - truth) * ($1 - truth) }
            #expect(abs(Double(mean[channel]) - truth) <= 2e-7 * max(abs(truth), 1))
            #expect(abs(Double(variance[channel]) - squares / Double(rows - 1)) <= 1e-4)
        }
    }

    /// A graph has the activation as an op of its own, whether or not training fuses it.
    @Test func aGraphHasItsOwnOps() throws {
        let graph = try Graph.recorded(example: [4, 4, 2], names: [:]) { x in
            let weight = x.tape.parameter(Weight(Fixtures.normal([3, 3, 3, 2], seed: 1)))
            return x.conv2D(
                weight: weight, bias: nil, Op.Conv2D(padding: Padding2D(Size2D(1))),
                activation: .pooledReLU)
        }
        #expect(graph.nodes.map(\.op.entry.name) == ["conv2d", "relu", "max_pool2d"])
    }

    private final class Weight: Leaf {
        let value: Tensor
        let mask: Mask? = nil
        let quantization: QuantizationScheme? = nil
        let isTrainable = true

        init(_ value: Tensor) { self.value = value }
    }
}
