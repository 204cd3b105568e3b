import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Layer norms between layers that are held as their live entries: in blocks, the same function as on rows. Serialized:
/// the width is the process's.
@Suite(.serialized) struct BlockedNormTests {
    private struct Case: CustomStringConvertible, Sendable {
        let description: String
        /// Of what a sparse layer gives, another term, a weight and a bias.
        let body: @Sendable (Value, Value, Value, Value) -> Value
        var isBlocked = true
    }

    private static let cases = [
        Case(description: "affine") { h, _, w, b in h.layerNorm(weight: w, bias: b) },
        Case(description: "weight") { h, _, w, _ in h.layerNorm(weight: w) },
        Case(description: "plain") { h, _, _, _ in h.layerNorm() },
        Case(description: "not centred") { h, _, w, _ in h.rmsNorm(weight: w) },
        Case(description: "residual of rows") { h, r, w, b in
            h.residualNorm(r, weight: w, bias: b)
        },
        Case(description: "residual of blocks") { h, r, w, b in
            r.residualNorm(h, weight: w, bias: b)
        },
        Case(description: "both in blocks") { h, _, w, b in
            h.residualNorm(h.tanh(), weight: w, bias: b)
        },
        Case(description: "one after another") { h, r, w, b in
            h.residualNorm(r, weight: w, bias: b).residualNorm(h, weight: w, bias: b)
        },
        Case(
            description: "without epsilon",
            body: { h, _, w, b in h.layerNorm(weight: w, bias: b, epsilon: 0) }, isBlocked: false),
    ]

    private func layer(_ inputs: Int, _ outputs: Int, holds: Bool) -> Linear {
        let layer = Linear(
            inputs: inputs, outputs: outputs, random: RandomStream(seed: UInt64(outputs)))
        let draws = RandomStream(seed: 3).uniform(inputs * outputs)
        let mask = Mask(shape: layer.weight.shape) { draws[$0] >= 0.8 }
        layer.weight.setMask(mask)
        layer.weight.lockMask()
        if holds { layer.weight.holdLiveEntries(LivePattern(mask)) }
        return layer
    }

    /// The norm, what a sparse layer makes of it, and all gradients.
    private func run(_ test: Case, tokens: Int, holds: Bool) -> (layout: Layout, [Tensor]) {
        let (first, second) = (layer(70, 96, holds: holds), layer(96, 50, holds: holds))
        let tape = Tape(mode: .training)
        let inputs = [
            Fixtures.normal([tokens, 70], seed: 1), Fixtures.normal([tokens, 96], seed: 2),
            Fixtures.normal([96], seed: 3), Fixtures.normal([96], seed: 4),
        ].map { tape.variable($0) }
        let norm = test.body(first(inputs[0]), inputs[1], inputs[2], inputs[3])
        let y = second(norm)
        let results = [norm.tensor, y.tensor]
        let layout = norm.stored.layout
        // What fills up the last block is finite too.
        let held = norm.stored.viewed([norm.stored.count], .rowMajor).elements
        #expect(held.allSatisfy { $0.isFinite })
        let gradients = tape.gradients(
            of: y, upstream: Fixtures.normal(y.shape, seed: 5), for: inputs)
        let parameters = [first.weight, second.weight, first.bias, second.bias].compactMap(\.self)
        let sums = parameters.map { parameter in
            gradients.parameters[parameter].map { Kernels.converted($0, to: .rowMajor) }
                ?? .zeros([0])
        }
        return (layout, results + gradients.values + sums)
    }

    @Test(arguments: [1, 63, 64, 65, 150])
    func likeTheNormOfRows(_ tokens: Int) {
        for test in Self.cases {
            let want = run(test, tokens: tokens, holds: false)
            let got = run(test, tokens: tokens, holds: true)
            #expect(want.layout == .rowMajor)
            #expect(got.layout == (test.isBlocked ? .tokenBlocked64 : .rowMajor), "\(test)")
            #expect(want.1.count == got.1.count)
            for (index, (a, b)) in zip(want.1, got.1).enumerated() {
                #expect(a.shape == b.shape)
                let size = max(a.elements.map(\.magnitude).max() ?? 0, 1)
                let worst = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
                #expect(worst <= 1e-5 * size, "\(test), result \(index) of \(tokens) tokens")
            }
        }
    }

    @Test func theSameBytesForAnyNumberOfThreads() {
        func run(_ width: Int, _ test: Case) -> [Tensor] {
            let previous = ThreadPool.shared.width
            ThreadPool.shared.width = width
            defer { ThreadPool.shared.width = previous }
            return self.run(test, tokens: 4_200, holds: true).1
        }
        for test in Self.cases {
            for (index, (a, b)) in zip(run(1, test), run(2, test)).enumerated() {
                #expect(a.isIdentical(to: b), "\(test), result \(index)")
            }
        }
    }
}
