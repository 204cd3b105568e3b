import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

private let activations: [Op.Linear.Activation] = [
    .relu, .unary(.gelu), .unary(.tanh), .unary(.silu), .unary(.elu(alpha: 0.7)),
]

/// A linear layer with its activation in one pass, and products of rounded factors.
@Suite struct LinearActivationTests {
    private func run(
        _ inputs: [Tensor], precision: Precision = .float, _ body: ([Value]) -> Value
    ) -> [Tensor] {
        let tape = Tape(mode: .training, precision: precision)
        let values = inputs.map { tape.variable($0) }
        let y = body(values)
        let result = y.tensor
        let gradients = tape.gradients(
            of: y, upstream: normal(result.shape, 9), for: values
        ).values
        return [result] + gradients
    }

    /// Bit for bit what the two ops give one after another, gradients included, for extents in one and in many parts.
    @Test(arguments: [[3, 5, 7], [1, 40, 31], [2, 300, 97], [130, 64, 33], [300, 130, 70]])
    func equalsTwoOps(_ extents: [Int]) {
        let (rows, outputs, depth) = (extents[0], extents[1], extents[2])
        for activation in activations {
            for hasBias in [false, true] {
                let inputs =
                    [normal([rows, depth]), normal([outputs, depth], 2)]
                    + (hasBias ? [normal([outputs], 3)] : [])
                let fused = run(inputs) {
                    $0[0].linear(
                        weight: $0[1], bias: hasBias ? $0[2] : nil, activation: activation)
                }
                let apart = run(inputs) {
                    let z = $0[0].linear(weight: $0[1], bias: hasBias ? $0[2] : nil)
                    return switch activation {
                    case .relu: z.relu()
                    case .unary(let function): z.applying(function)
                    }
                }
                for (a, b) in zip(fused, apart) {
                    #expect(a.shape == b.shape && a.elements == b.elements, "\(activation)")
                }
            }
        }
    }

    @Test(arguments: [Op.Unary.Function.gelu, .tanh, .silu, .softplus(beta: 2)])
    func agreesWithDifferences(_ function: Op.Unary.Function) {
        let worst = GradientCheck.worstError(
            of: { $0[0].linear(weight: $0[1], bias: $0[2], activation: .unary(function)) },
            at: [normal([3, 5]), normal([4, 5], 2), normal([4], 3)], step: 1e-2)
        #expect(worst.error < 4e-3, "\(worst.place)")
    }

    /// An evaluation tape, which graphs are recorded on, has both ops.
    @Test func evaluationRecordsTwoOps() throws {
        let weight = Parameter(normal([4, 5]))
        let names = [ObjectIdentifier(weight): "weight"]
        let graph = try Graph.recorded(example: [5], names: names) {
            $0.linear(
                weight: $0.tape.parameter(weight), bias: nil, activation: .unary(.gelu))
        }
        #expect(graph.nodes.map(\.op.entry.name) == ["linear", "gelu_erf"])
    }

    /// With factors that bfloat16 holds nothing changes; others are rounded, forward and backward.
    @Test func roundsFactors() { HalfProducts.$chosen.withValue(.widened) { checkRounding() } }

    private func checkRounding() {
        func rounded(_ x: Tensor) -> Tensor {
            Tensor(
                x.elements.map {
                    let bits = $0.bitPattern
                    return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
                }, shape: x.shape)
        }
        let inputs = [normal([37, 50]), normal([21, 50], 2), normal([21], 3)]
        let exact = [rounded(inputs[0]), rounded(inputs[1]), inputs[2]]
        let layer: ([Value]) -> Value = { $0[0].linear(weight: $0[1], bias: $0[2]) }
        let got = run(inputs, precision: .bf16, layer)
        let same = run(exact, precision: .bf16, layer)
        let float = run(exact, layer)
        for (a, b) in zip(got, same) { #expect(a.elements == b.elements) }
        #expect(got[0].elements == float[0].elements)
        // The gradient for y is rounded too, but not in the sum for the bias.
        let upstream = rounded(normal([37, 21], 9))
        let tape = Tape(mode: .training)
        let values = exact.map { tape.variable($0) }
        let gradients = tape.gradients(of: layer(values), upstream: upstream, for: values).values
        #expect(got[1].elements == gradients[0].elements)
        #expect(got[2].elements == gradients[1].elements)
        #expect(zip(got[3].elements, float[3].elements).allSatisfy { abs($0 - $1) < 1e-5 })
        // Products of batches.
        let (a, b) = (normal([3, 9, 20]), normal([3, 20, 33], 2))
        let product: ([Value]) -> Value = { $0[0].matMul($0[1]) }
        let wide = run([rounded(a), rounded(b)], product)[0]
        #expect(run([a, b], precision: .bf16, product)[0].elements == wide.elements)
    }
}
