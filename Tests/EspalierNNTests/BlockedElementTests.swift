import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Functions of elements between layers that are held as their live entries: whatever fills up the last block of
/// tokens, the same gradients as on rows.
@Suite struct BlockedElementTests {
    private typealias Body = (Value, Value) -> Value

    private func layer(_ inputs: Int, _ outputs: Int, bias: Float, holds: Bool) -> Linear {
        let layer = Linear(
            inputs: inputs, outputs: outputs, initializer: .uniform,
            random: RandomStream(seed: UInt64(outputs)))
        layer.bias?.assign(Tensor(repeating: bias, shape: [outputs]))
        let draws = RandomStream(seed: 3).uniform(inputs * outputs)
        let mask = Mask(shape: layer.weight.shape) { draws[$0] >= 0.8 }
        layer.weight.setMask(mask)
        layer.weight.lockMask()
        if holds { layer.weight.holdLiveEntries(LivePattern(mask)) }
        return layer
    }

    /// What a sparse layer makes of a function of another's results, which are `bias` in rows that nobody asked for,
    /// and of what brings them to between 1 and 3 in the others; and all gradients.
    private func run(tokens: Int, bias: Float, holds: Bool, _ body: Body) -> [Tensor] {
        let first = layer(70, 96, bias: bias, holds: holds)
        let second = layer(96, 50, bias: 0, holds: holds)
        let tape = Tape(mode: .training)
        let shift = RandomStream(seed: 2).uniform(tokens * 96).map { 1.5 + $0 - bias }
        let x = tape.variable(Kernels.scale(Fixtures.normal([tokens, 70], seed: 1), by: 0.1))
        let other = tape.variable(Tensor(shift, shape: [tokens, 96]))
        let y = second(body(first(x), other))
        let result = y.tensor
        let gradients = tape.gradients(
            of: y, upstream: Fixtures.normal(y.shape, seed: 5), for: [x, other])
        let parameters = [first.weight, second.weight, first.bias, second.bias].compactMap(\.self)
        return [result] + gradients.values
            + parameters.map { parameter in
                gradients.parameters[parameter].map { Kernels.converted($0, to: .rowMajor) }
                    ?? .zeros([0])
            }
    }

    private func expectLikeRows(_ name: String, _ body: Body) {
        for tokens in [64, 70] {
            // A function of 0, one of a negative number, and one of what is too large for an exponential.
            for bias in [0, -100, 100] as [Float] {
                let want = run(tokens: tokens, bias: bias, holds: false, body)
                let got = run(tokens: tokens, bias: bias, holds: true, body)
                for (index, (a, b)) in zip(want, got).enumerated() {
                    #expect(a.shape == b.shape && a.firstNonFinite == nil)
                    let size = max(a.elements.map(\.magnitude).max() ?? 0, 1)
                    let worst = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
                    #expect(
                        b.firstNonFinite == nil && worst <= 1e-4 * size,
                        "\(name), result \(index) of \(tokens) tokens, bias \(bias): \(worst)")
                }
            }
        }
    }

    @Test(arguments: Op.Unary.Function.all + [.power(-0.5), .power(0.3)])
    func functionsOfOne(_ function: Op.Unary.Function) {
        expectLikeRows(function.name) { ($0 + $1).applying(function) }
    }

    @Test(arguments: Op.Binary.Function.all)
    func functionsOfTwo(_ function: Op.Binary.Function) {
        expectLikeRows(function.name) { Value.combining(function, $0 + $1, ($0 + $1).sigmoid()) }
        expectLikeRows(function.name) { Value.combining(function, ($0 + $1).sigmoid(), $0 + $1) }
    }

    /// In the same pass as the layer.
    @Test(arguments: [Op.Unary.Function.exp, .log, .reciprocal, .tanh])
    func functionsInTheLayer(_ function: Op.Unary.Function) {
        let mask = Mask(shape: [96, 96]) { $0 % 97 == 0 }
        func identity(_ tape: Tape, holds: Bool) -> Value {
            let weight = Parameter(Tensor(repeating: 1, shape: [96, 96]))
            weight.setMask(mask)
            weight.lockMask()
            if holds { weight.holdLiveEntries(LivePattern(mask)) }
            return tape.parameter(weight)
        }
        for holds in [false, true] {
            expectLikeRows(function.name) {
                ($0 + $1).linear(
                    weight: identity($0.tape, holds: holds), bias: nil,
                    activation: .unary(function))
            }
        }
    }
}
