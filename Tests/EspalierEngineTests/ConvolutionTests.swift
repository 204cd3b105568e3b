import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors
import EspalierTesting
import Testing

/// A convolution of some shapes.
struct ConvolutionCase: Sendable, CustomStringConvertible {
    let image: Size2D
    let inputs: Int
    let outputs: Int
    let kernel: Size2D
    let op: Op.Conv2D
    var images = 2

    var description: String {
        "\(images) x \(image.height)x\(image.width), \(inputs)->\(outputs), \(kernel), \(op)"
    }

    var x: Shape { [images, image.height, image.width, inputs] }
    var weight: Shape { [outputs, kernel.height, kernel.width, inputs / op.groups] }
    var out: Size2D? { op.window(weight: weight).positions(over: image) }

    init(
        _ image: (Int, Int), _ inputs: Int, _ outputs: Int, kernel: (Int, Int) = (3, 3),
        stride: (Int, Int) = (1, 1), padding: Padding2D = Padding2D(Size2D(1)),
        dilation: (Int, Int) = (1, 1), groups: Int = 1, images: Int = 2
    ) {
        (self.inputs, self.outputs, self.images) = (inputs, outputs, images)
        self.image = Size2D(image.0, image.1)
        self.kernel = Size2D(kernel.0, kernel.1)
        op = Op.Conv2D(
            stride: Size2D(stride.0, stride.1), padding: padding,
            dilation: Size2D(dilation.0, dilation.1), groups: groups)
    }

    /// Result and gradients by the definition, in double precision.
    func reference(_ x: Tensor, _ weight: Tensor, _ bias: Tensor, _ dy: Tensor) -> [[Double]] {
        guard let out else { return [] }
        let (a, w, b, g) = (x.elements, weight.elements, bias.elements, dy.elements)
        var y = [Double](repeating: 0, count: g.count)
        var dx = [Double](repeating: 0, count: a.count)
        var dw = [Double](repeating: 0, count: w.count)
        var db = [Double](repeating: 0, count: b.count)
        let depth = inputs / op.groups
        for at in g.indices {
            let (output, pixel) = (at % outputs, at / outputs)
            let (column, row) = (pixel % out.width, pixel / out.width % out.height)
            let image = pixel / out.width / out.height
            y[at] += Double(b[output])
            db[output] += Double(g[at])
            for ky in 0..<kernel.height {
                for kx in 0..<kernel.width {
                    let iy = row * op.stride.height - op.padding.top + ky * op.dilation.height
                    let ix = column * op.stride.width - op.padding.left + kx * op.dilation.width
                    guard iy >= 0, ix >= 0, iy < self.image.height, ix < self.image.width else {
                        continue
                    }
                    let first =
                        ((image * self.image.height + iy) * self.image.width + ix) * inputs
                        + output / (outputs / op.groups) * depth
                    let tap = ((output * kernel.height + ky) * kernel.width + kx) * depth
                    for channel in 0..<depth {
                        let (value, factor) = (Double(a[first + channel]), Double(w[tap + channel]))
                        y[at] += value * factor
                        dx[first + channel] += Double(g[at]) * factor
                        dw[tap + channel] += Double(g[at]) * value
                    }
                }
            }
        }
        return [y, dx, dw, db]
    }

    static let all: [ConvolutionCase] = [
        // Winograd's, with odd images and channels that fill no vector.
        ConvolutionCase((14, 14), 32, 64), ConvolutionCase((7, 9), 16, 16),
        ConvolutionCase((8, 8), 17, 33, images: 5), ConvolutionCase((5, 6), 64, 48, images: 9),
        ConvolutionCase((32, 33), 16, 20), ConvolutionCase((6, 40), 24, 65, images: 1),
        ConvolutionCase((9, 9), 16, 32, padding: Padding2D(top: 0, left: 2, bottom: 3, right: 0)),
        ConvolutionCase((9, 8), 32, 16, padding: Padding2D(Size2D(4, 0))),
        // Direct: few channels, primes, strides, kernels of all sizes, dilations, groups.
        ConvolutionCase((28, 28), 1, 32), ConvolutionCase((13, 11), 3, 16, images: 17),
        ConvolutionCase((9, 11), 5, 7, kernel: (2, 3), stride: (2, 1)),
        ConvolutionCase((16, 16), 16, 32, stride: (2, 2)),
        ConvolutionCase((15, 17), 8, 24, stride: (2, 2)),
        ConvolutionCase((8, 8), 16, 32, kernel: (1, 1), stride: (2, 2), padding: .init(Size2D(0))),
        ConvolutionCase((8, 7), 32, 16, kernel: (1, 1), padding: Padding2D(Size2D(0))),
        ConvolutionCase((8, 7), 6, 16, kernel: (1, 1), padding: Padding2D(Size2D(2))),
        ConvolutionCase((3, 2), 4, 5, kernel: (5, 7), padding: Padding2D(Size2D(3))),
        ConvolutionCase((11, 10), 3, 4, kernel: (2, 2), stride: (3, 5)),
        ConvolutionCase((11, 10), 3, 17, kernel: (3, 3), dilation: (2, 3)),
        ConvolutionCase((13, 12), 3, 17, kernel: (3, 4), stride: (2, 3), dilation: (3, 2)),
        ConvolutionCase((13, 12), 2, 3, kernel: (3, 4), stride: (4, 6), dilation: (2, 4)),
        ConvolutionCase((6, 7), 12, 18, groups: 3), ConvolutionCase((6, 7), 64, 32, groups: 2),
        ConvolutionCase((9, 7), 4, 12, stride: (2, 2), groups: 4),
        ConvolutionCase((6, 7), 19, 19, groups: 19),
        ConvolutionCase((9, 7), 32, 32, kernel: (5, 3), stride: (2, 3), groups: 32),
        ConvolutionCase((9, 8), 3, 3, stride: (2, 1), dilation: (1, 2), groups: 3),
        ConvolutionCase((1, 1), 1, 1, kernel: (1, 1), padding: Padding2D(Size2D(0)), images: 1),
    ]
}

@Suite struct ConvolutionTests {
    private func operands(_ test: ConvolutionCase) -> [Tensor] {
        [
            Fixtures.normal(test.x, seed: 1), Fixtures.normal(test.weight, seed: 2),
            Fixtures.normal([test.outputs], seed: 3),
        ]
    }

    /// The result and the gradients of the operands.
    private func run(
        _ inputs: [Tensor], precision: Precision = .float, _ body: ([Value]) -> Value
    ) -> [Tensor] {
        let tape = Tape(mode: .training, precision: precision)
        let values = inputs.map { tape.variable($0) }
        let y = body(values)
        let dy = Fixtures.normal(y.shape, seed: 4)
        return [y.tensor] + tape.gradients(of: y, upstream: dy, for: values).values
    }

    @Test(arguments: ConvolutionCase.all) func agreesWithTheDefinition(_ test: ConvolutionCase)
        throws
    {
        let inputs = operands(test)
        let got = run(inputs) { $0[0].conv2D(weight: $0[1], bias: $0[2], test.op) }
        let dy = Fixtures.normal(got[0].shape, seed: 4)
        let truth = test.reference(inputs[0], inputs[1], inputs[2], dy)
        #expect(truth.count == 4)
        for (index, (tensor, expected)) in zip(got, truth).enumerated() {
            #expect(tensor.count == expected.count)
            let size = (expected.reduce(0) { $0 + $1 * $1 } / Double(max(expected.count, 1)))
                .squareRoot()
            let worst = zip(tensor.elements, expected).map { abs(Double($0) - $1) }.max() ?? 0
            #expect(worst <= 1e-5 * max(size, 1), "result \(index): \(worst) of \(size)")
        }
        let evaluated = Tape(mode: .evaluation, isRecording: false)
        let y = evaluated.input(inputs[0]).conv2D(
            weight: evaluated.input(inputs[1]), bias: evaluated.input(inputs[2]), test.op
        ).tensor
        let worst = zip(y.elements, truth[0]).map { abs(Double($0) - $1) }.max() ?? 0
        // Of the largest result, a sum of as many terms.
        let largest = truth[0].map(\.magnitude).max() ?? 0
        #expect(worst <= 2e-6 * max(largest, 1), "in evaluation: \(worst) of \(largest)")
    }

    /// A fused activation changes no bit.
    @Test(arguments: ConvolutionCase.all) func fusedActivations(_ test: ConvolutionCase) throws {
        let inputs = operands(test)
        guard let out = test.out else { return }
        for activation in [Op.Conv2D.Activation.relu, .pooledReLU] {
            guard activation == .relu || min(out.height, out.width) >= 2 else { continue }
            let fused = run(inputs) {
                $0[0].conv2D(weight: $0[1], bias: $0[2], test.op, activation: activation)
            }
            let plain = run(inputs) {
                let y = $0[0].conv2D(weight: $0[1], bias: $0[2], test.op).relu()
                return activation == .relu
                    ? y : y.maxPool2D(Window2D(kernel: Size2D(2), stride: Size2D(2)))
            }
            for (index, (a, b)) in zip(fused, plain).enumerated() {
                #expect(a.shape == b.shape)
                // A zero may have another sign.
                #expect(a.elements == b.elements, "\(activation), result \(index)")
            }
        }
    }

    /// In bf16 image, weights and upstream are rounded; the bias's gradient is of the upstream itself.
    @Test(arguments: [ConvolutionCase.all[0], ConvolutionCase.all[8]])
    func roundedFactors(_ test: ConvolutionCase) {
        func rounded(_ x: Tensor) -> Tensor {
            Kernels.floats(Kernels.halves(x, .bfloat16), .bfloat16, shape: x.shape)
        }
        let inputs = operands(test)
        let got = run(inputs, precision: .bf16) {
            $0[0].conv2D(weight: $0[1], bias: $0[2], test.op)
        }
        let tape = Tape(mode: .training)
        let values = [rounded(inputs[0]), rounded(inputs[1]), inputs[2]].map { tape.variable($0) }
        let y = values[0].conv2D(weight: values[1], bias: values[2], test.op)
        let dy = Fixtures.normal(y.shape, seed: 4)
        #expect(got[0].isIdentical(to: y.tensor))
        let expected = tape.gradients(of: y, upstream: rounded(dy), for: values).values
        #expect(got[1].isIdentical(to: expected[0]) && got[2].isIdentical(to: expected[1]))
        let exact = run(inputs) { $0[0].conv2D(weight: $0[1], bias: $0[2], test.op) }
        #expect(got[3].isIdentical(to: exact[3]))
    }

    @Test func noImages() {
        let test = ConvolutionCase((8, 8), 16, 16, images: 0)
        let got = run(operands(test)) {
            $0[0].conv2D(weight: $0[1], bias: $0[2], test.op, activation: .pooledReLU)
        }
        #expect(got.map(\.shape) == [[0, 4, 4, 16], [0, 8, 8, 16], [16, 3, 3, 16], [16]])
        #expect(got[2].elements.allSatisfy { $0 == 0 })
    }
}
