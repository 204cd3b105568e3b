import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

func resampleChecks() -> [GradientCase] {
    Op.Resample.Kind.allCases.flatMap { kind in
        [Size2D(1), Size2D(2, 3), Size2D(3, 5), Size2D(7, 4)].map { size in
            GradientCase(name: "resample \(kind) \(size)", inputs: [normal([2, 3, 5, 2])]) {
                $0[0].resampled(kind, to: size)
            }
        }
    }
}

private let convolutions: [GradientCase] = [
    GradientCase(
        name: "conv1d", inputs: [normal([2, 7, 4]), normal([6, 3, 2], 2), normal([6], 3)]
    ) {
        $0[0].conv1D(
            weight: $0[1], bias: $0[2], stride: 2, padding: 2, dilation: 2, groups: 2)
    },
    GradientCase(
        name: "transposed conv2d",
        inputs: [normal([2, 3, 2, 4]), normal([4, 2, 3, 3], 2), normal([6], 3)]
    ) {
        $0[0].convTransposed2D(
            weight: $0[1], bias: $0[2],
            Op.Conv2D(
                stride: Size2D(2, 3), padding: Padding2D(top: 1, left: 0, bottom: 0, right: 2),
                dilation: Size2D(2, 1), groups: 2), outputPadding: Size2D(1, 2))
    },
    GradientCase(name: "columns", inputs: [normal([2, 4, 5, 2])]) { $0[0].columns(columnWindow) },
    GradientCase(name: "folded columns", inputs: [normal([2, 4, 6, 2])]) {
        $0[0].foldedColumns(columnWindow, to: Size2D(4, 5))
    },
]

private let columnWindow = Window2D(
    kernel: Size2D(3, 2), stride: Size2D(2, 2),
    padding: Padding2D(top: 1, left: 0, bottom: 0, right: 1), dilation: Size2D(1, 2))

/// Heads of 3 and 2, more keys than queries; one query of the masked ones sees nothing.
func attentionChecks() -> [GradientCase] {
    [(false, false), (true, false), (false, true), (true, true)].map { isCausal, isMasked in
        GradientCase(
            name: "fused attention, causal \(isCausal), masked \(isMasked)",
            inputs: [normal([2, 4, 6]), normal([2, 5, 6], 2), normal([2, 5, 4], 3)]
        ) {
            $0[0].attention(
                keys: $0[1], values: $0[2], heads: 2,
                keyMask: isMasked ? Tensor([1, 1, 1, 1, 0, 0, 1, 0, 0, 1], shape: [2, 5]) : nil,
                isCausal: isCausal, scale: 0.7)
        }
    }
}

func residualNormChecks() -> [GradientCase] {
    [
        GradientCase(
            name: "residual norm",
            inputs: [normal([3, 7]), normal([3, 7], 2), normal([7], 3), normal([7], 4)],
            mode: .training
        ) { $0[0].residualNorm($0[1], weight: $0[2], bias: $0[3], epsilon: 0.1) },
        GradientCase(
            name: "residual norm alone", inputs: [normal([3, 7]), normal([3, 7], 2)],
            mode: .training
        ) { $0[0].residualNorm($0[1], epsilon: 0.1) },
    ]
}

private let attentions: [GradientCase] = [false, true].map { isCausal in
    GradientCase(
        name: "attention, causal \(isCausal)",
        inputs: [normal([2, 2, 3, 4]), normal([2, 2, 5, 4], 2), normal([2, 2, 5, 3], 3)]
    ) {
        $0[0].attention(
            keys: $0[1], values: $0[2],
            keyMask: Tensor([1, 1, 1, 1, 0, 1, 1, 0, 0, 0], shape: [2, 1, 1, 5]),
            isCausal: isCausal, scale: 0.7
        ).result
    }
}

@Suite struct LayerGradientTests {
    @Test(arguments: convolutions + attentions) func agreesWithDifferences(_ test: GradientCase) {
        let worst = GradientCheck.worstError(of: test.body, at: test.inputs, step: test.step)
        #expect(worst.error < 4e-3, "\(worst.place)")
    }

    /// A transposed convolution is the gradient of the convolution's input.
    @Test func transposedConvolutionIsTheGradient() {
        let op = Op.Conv2D(
            stride: Size2D(2, 3), padding: Padding2D(Size2D(1, 2)), dilation: Size2D(1, 2),
            groups: 2)
        let tape = Tape(mode: .training)
        let (x, weight) = (normal([2, 7, 9, 4]), normal([6, 3, 2, 2], 2))
        let input = tape.variable(x)
        let y = input.conv2D(weight: tape.input(weight), bias: nil, op)
        let upstream = normal(y.shape, 3)
        // What the stride leaves over at the bottom and the right.
        let left = Size2D((7 + 2 - 3) % 2, (9 + 4 - 3) % 3)
        let gradient = tape.gradients(of: y, upstream: upstream, for: [input]).values[0]
        let other = Tape(mode: .evaluation)
        let got = other.input(upstream).convTransposed2D(
            weight: other.input(weight), op, outputPadding: left
        ).tensor
        #expect(got.shape == x.shape)
        #expect(zip(got.elements, gradient.elements).allSatisfy { abs($0 - $1) < 1e-4 })
    }
}
