import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

/// Linear and convolution against loops that are nothing but the definition, in double precision.
@Suite struct ReferenceTests {
    /// Each sum may be off by a few roundings of the magnitudes that it adds.
    private func expectClose(
        _ got: Tensor, _ sums: [(value: Double, magnitude: Double)], terms: Int, _ name: String
    ) {
        #expect(got.count == sums.count)
        let bound = Double(Float.ulpOfOne) * Double(4 + terms / 8)
        for (index, (x, sum)) in zip(got.elements, sums).enumerated()
        where !(abs(Double(x) - sum.value) <= bound * sum.magnitude) {
            Issue.record("\(name) at \(index): \(x), expected \(sum.value)")
            return
        }
    }

    @Test func linear() {
        let extents = [1, 2, 3, 5, 7, 16, 17, 31, 64, 97]
        for number in 0..<60 {
            let draw = RandomStream(seed: UInt64(number)).integers(4, below: extents.count)
            let (outputs, depth) = (extents[draw[1]], number == 7 ? 0 : extents[draw[2]])
            let leading: [Int] =
                switch number % 4 {
                case 0: [extents[draw[0]]]
                case 1: [extents[draw[0]], extents[draw[3] / 2]]
                case 2: []
                default: [number % 3 == 0 ? 0 : 1]
                }
            let rows = leading.reduce(1, *)
            let x = Fixtures.normal(Shape(leading + [depth]), seed: 1)
            let weight = Fixtures.normal([outputs, depth], seed: 2)
            let bias = number % 2 == 0 ? nil : Fixtures.normal([outputs], seed: 3)
            let tape = Tape(mode: .training)
            let y = tape.input(x).linear(weight: tape.input(weight), bias: bias.map(tape.input))
                .tensor
            #expect(y.shape == Shape(leading + [outputs]))
            let (a, w, b) = (x.elements, weight.elements, bias?.elements)
            var sums: [(Double, Double)] = []
            for row in 0..<rows {
                for output in 0..<outputs {
                    var (sum, magnitude) = (Double(b?[output] ?? 0), abs(Double(b?[output] ?? 0)))
                    for index in 0..<depth {
                        let term =
                            Double(a[row * depth + index]) * Double(w[output * depth + index])
                        sum += term
                        magnitude += abs(term)
                    }
                    sums.append((sum, magnitude))
                }
            }
            expectClose(y, sums, terms: depth, "linear \(x.shape) \(weight.shape)")
        }
    }

    @Test func convolution() {
        var checked = 0
        for number in 0..<200 {
            let random = RandomStream(seed: UInt64(1_000 + number))
            let draw = random.integers(16, below: 5_040)
            let groups = [1, 1, 1, 2, 3][draw[0] % 5]
            let (inputs, outputs) = (groups * (1 + draw[1] % 5), groups * (1 + draw[2] % 7))
            let image = (1 + draw[3] % 9, 1 + draw[4] % 9)
            let kernel = (1 + draw[5] % 4, 1 + draw[6] % 4)
            let op = Op.Conv2D(
                stride: Size2D(1 + draw[7] % 3, 1 + draw[8] % 3),
                padding: Padding2D(
                    top: draw[9] % 3, left: draw[10] % 3, bottom: draw[11] % 3,
                    right: draw[12] % 3),
                dilation: Size2D(1 + draw[13] % 2, 1 + draw[14] % 2), groups: groups)
            let shape: Shape = [number % 4, image.0, image.1, inputs]
            let weightShape: Shape = [outputs, kernel.0, kernel.1, inputs / groups]
            guard let out = op.window(weight: weightShape).positions(over: Size2D(image.0, image.1))
            else { continue }
            checked += 1
            let x = Fixtures.normal(shape, seed: 1)
            let weight = Fixtures.normal(weightShape, seed: 2)
            let bias = number % 2 == 0 ? nil : Fixtures.normal([outputs], seed: 3)
            let tape = Tape(mode: .training)
            let y = tape.input(x).conv2D(
                weight: tape.input(weight), bias: bias.map(tape.input), op
            ).tensor
            #expect(y.shape == [shape[0], out.height, out.width, outputs])
            expectClose(
                y, reference(x, weight, bias, op, out), terms: weightShape.dropFirst().reduce(1, *),
                "conv2d \(shape) \(weightShape) \(op)")
        }
        #expect(checked > 100)
    }

    private func reference(
        _ x: Tensor, _ weight: Tensor, _ bias: Tensor?, _ op: Op.Conv2D, _ out: Size2D
    ) -> [(value: Double, magnitude: Double)] {
        let (a, w, b) = (x.elements, weight.elements, bias?.elements)
        let (height, width, channels) = (x.shape[1], x.shape[2], x.shape[3])
        let (outputs, kernelY, kernelX, depth) = (
            weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3]
        )
        var sums: [(Double, Double)] = []
        for image in 0..<x.shape[0] {
            for pixel in 0..<out.height * out.width {
                for output in 0..<outputs {
                    let first = output / (outputs / op.groups) * depth
                    var (sum, magnitude) = (Double(b?[output] ?? 0), abs(Double(b?[output] ?? 0)))
                    for ky in 0..<kernelY {
                        for kx in 0..<kernelX {
                            let row =
                                pixel / out.width * op.stride.height - op.padding.top
                                + ky * op.dilation.height
                            let column =
                                pixel % out.width * op.stride.width - op.padding.left
                                + kx * op.dilation.width
                            guard (0..<height).contains(row), (0..<width).contains(column) else {
                                continue
                            }
                            for channel in 0..<depth {
                                let from = ((image * height + row) * width + column) * channels
                                let tap = ((output * kernelY + ky) * kernelX + kx) * depth
                                let term =
                                    Double(a[from + first + channel]) * Double(w[tap + channel])
                                sum += term
                                magnitude += abs(term)
                            }
                        }
                    }
                    sums.append((sum, magnitude))
                }
            }
        }
        return sums
    }
}
