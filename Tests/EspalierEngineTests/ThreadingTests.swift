import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

/// Results and gradients are the same bits for one thread and for two. Serialized: the width is the
/// process's.
@Suite(.serialized) struct ThreadingTests {
    private func expectSame(
        _ inputs: [Tensor], mode: Mode = .training, _ body: ([Value]) -> Value
    ) {
        func run(_ width: Int) -> [Tensor] {
            let previous = ThreadPool.shared.width
            ThreadPool.shared.width = width
            defer { ThreadPool.shared.width = previous }
            let tape = Tape(mode: mode, random: RandomStream(seed: 2))
            let values = inputs.map { tape.variable($0) }
            let y = body(values)
            let upstream = Fixtures.normal(y.shape, seed: 77)
            return [y.tensor] + tape.gradients(of: y, upstream: upstream, for: values).values
        }
        let one = run(1)
        for _ in 0..<3 {
            for (index, (a, b)) in zip(one, run(2)).enumerated() {
                #expect(a.isIdentical(to: b), "result \(index) of shape \(a.shape)")
            }
        }
    }

    private func normal(_ shape: Shape, _ seed: UInt64 = 1) -> Tensor {
        Fixtures.normal(shape, seed: seed)
    }

    @Test func linear() {
        for (rows, outputs, depth) in [(700, 130, 257), (64, 1_031, 211), (1_009, 10, 509)] {
            expectSame([normal([rows, depth]), normal([outputs, depth], 2), normal([outputs], 3)]) {
                $0[0].linear(weight: $0[1], bias: $0[2])
            }
        }
    }

    @Test func convolution() {
        for (groups, kernel) in [(1, 3), (2, 3), (1, 1)] {
            let x = normal([19, 29, 31, 16])
            expectSame([x, normal([24, kernel, kernel, 16 / groups], 2), normal([24], 3)]) {
                $0[0].conv2D(
                    weight: $0[1], bias: $0[2],
                    Op.Conv2D(padding: Padding2D(Size2D(kernel / 2)), groups: groups))
            }
        }
    }

    @Test func convolutionsOfAllKinds() {
        for test in ConvolutionCase.all + [ConvolutionCase((16, 16), 32, 16, images: 37)] {
            for activation in [Op.Conv2D.Activation.none, .relu, .pooledReLU] {
                guard let out = test.out, min(out.height, out.width) >= 2 else { continue }
                expectSame([normal(test.x), normal(test.weight, 2), normal([test.outputs], 3)]) {
                    $0[0].conv2D(
                        weight: $0[1], bias: $0[2], test.op, activation: activation)
                }
            }
        }
    }

    @Test func batchNorm() {
        final class Owner {}
        let moments = Op.BatchNorm.Moments(mean: normal([37], 5), variance: .zeros([37]))
        let owner = Owner()
        for mode in [Mode.training, .evaluation] {
            expectSame([normal([4_099, 37]), normal([37], 2), normal([37], 3)], mode: mode) {
                $0[0].batchNorm(
                    weight: $0[1], bias: $0[2], running: moments, epsilon: 1e-2, owner: owner)
            }
            expectSame([normal([4_099, 37]), normal([37], 2), normal([37], 3)], mode: mode) {
                $0[0].batchNorm(
                    weight: $0[1], bias: $0[2], running: moments, epsilon: 1e-2, owner: owner,
                    relu: true)
            }
            let other = normal([4_099, 37], 8)
            expectSame([normal([4_099, 37]), normal([37], 2), normal([37], 3), other], mode: mode) {
                $0[0].batchNorm(
                    weight: $0[1], bias: $0[2], running: moments, epsilon: 1e-2, owner: owner,
                    relu: true, adding: $0[3])
            }
        }
    }

    @Test func softmax() {
        expectSame([normal([3_001, 101])]) { $0[0].softmax() }
        expectSame([normal([3_001, 101])]) { $0[0].logSoftmax() }
        expectSame([normal([101, 3_001])]) { $0[0].softmax(axis: 0) }
    }

    @Test func losses() {
        let labels = IndexTensor(RandomStream(seed: 4).integers(5_003, below: 37).map(Int32.init))
        expectSame([normal([5_003, 37])]) { $0[0].crossEntropy(labels, smoothing: 0.1) }
        let teacher = normal([5_003, 37], 6)
        expectSame([normal([5_003, 37])]) { $0[0].distillation(from: teacher, temperature: 3) }
    }

    @Test func attention() {
        let mask = Tensor((0..<5 * 131).map { $0 % 7 == 3 ? 0 : 1 }, shape: [5, 131])
        for isCausal in [false, true] {
            expectSame([normal([5, 101, 30]), normal([5, 131, 30], 2), normal([5, 131, 21], 3)]) {
                $0[0].attention(
                    keys: $0[1], values: $0[2], heads: 3, keyMask: mask, isCausal: isCausal)
            }
        }
    }

    @Test func residualNorm() {
        expectSame([
            normal([1_001, 65]), normal([1_001, 65], 4), normal([65], 2), normal([65], 3),
        ]) {
            $0[0].residualNorm($0[1], weight: $0[2], bias: $0[3])
        }
    }

    @Test func theRest() {
        let window = Window2D(kernel: Size2D(3), stride: Size2D(2), padding: Padding2D(Size2D(1)))
        expectSame([normal([13, 33, 35, 17])]) { $0[0].maxPool2D(window) }
        expectSame([normal([13, 33, 35, 17])]) { $0[0].averagePool2D(window) }
        expectSame([normal([70_001])]) { $0[0].relu().dropout(0.3).scaled(by: 0.7) }
        expectSame([normal([701, 101]), normal([101], 2)]) { $0[0] + $0[1] }
    }

    @Test func opFamilies() {
        expectSame([normal([70_001])]) { $0[0].gelu().softplus() }
        expectSame([normal([701, 101]), normal([101], 2)]) { .maximum($0[0] * $0[1], $0[1]) }
        expectSame([normal([70, 50, 21])]) { $0[0].variance(axes: [0, 2]) }
        expectSame([normal([70, 50, 21])]) { $0[0].cumulativeSum(axis: 1).permuted([2, 0, 1]) }
        expectSame([normal([1_001, 65]), normal([65], 2), normal([65], 3)]) {
            $0[0].layerNorm(weight: $0[1], bias: $0[2])
        }
        expectSame([normal([5, 130, 70]), normal([5, 70, 140], 2)]) { $0[0].matMul($0[1]) }
        let ids = IndexTensor(RandomStream(seed: 4).integers(3_000, below: 40).map(Int32.init))
        expectSame([normal([40, 33])]) { $0[0].embedding(ids) }
        expectSame([normal([40, 333])]) { $0[0].embedding(ids) }
        expectSame([normal([90, 40, 33])]) { $0[0].taken(axis: 1, ids) }
    }
}
