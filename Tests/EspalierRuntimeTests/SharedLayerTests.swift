import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

/// A forward over parameters p0, p1, ...
private struct Forward: Layer {
    let parameters: [Parameter]
    let body: @Sendable (Value, [Value]) -> Value

    func callAsFunction(_ x: Value) -> Value { body(x, parameters.map { x.tape.parameter($0) }) }

    func visit(_ visitor: inout some ModuleVisitor) {
        for (index, parameter) in parameters.enumerated() {
            visitor.visit("p\(index).weight", parameter)
        }
    }
}

/// Networks that folding could change: constants that several nodes read, and schemes that no layer of ours has.
@Suite struct SharedLayerTests {
    private static func parameter(
        _ shape: Shape, _ seed: UInt64, scale: Float = 0.3, mask: Mask? = nil
    ) -> Parameter {
        let values = RandomStream(seed: seed).normal(shape.elementCount).map { $0 * scale }
        let parameter = Parameter(Tensor(values, shape: shape))
        if let mask { parameter.setMask(mask) }
        return parameter
    }

    private static func grid(
        _ low: Float, _ high: Float, isSigned: Bool = false
    ) -> QuantizationParameters {
        QuantizationParameters(
            scheme: QuantizationScheme(
                bits: 8, isSigned: isSigned, isSymmetric: isSigned, granularity: .tensor),
            low: [low], high: [high])
    }

    private static func weights(
        isSymmetric: Bool = true, axis: Int? = 0, count: Int = 8
    ) -> QuantizationParameters {
        let scheme = QuantizationScheme(
            bits: 8, isSigned: true, isSymmetric: isSymmetric,
            granularity: axis.map { .channel(axis: $0) } ?? .tensor)
        let channels = axis == nil ? 1 : count
        return QuantizationParameters(
            scheme: scheme, low: (0..<channels).map { -0.5 - 0.1 * Float($0) },
            high: (0..<channels).map { 1 + 0.05 * Float($0) })
    }

    private static func norm(_ x: Value, _ seed: UInt64) -> Value {
        let random = RandomStream(seed: seed)
        return x.batchNorm(
            weight: nil, bias: nil,
            running: Op.BatchNorm.Moments(
                mean: Tensor(random.normal(8), shape: [8]),
                variance: Tensor(random.child(1).uniform(8).map { $0 + 0.5 }, shape: [8])),
            epsilon: 1e-5, owner: Parameter(.zeros([1])))
    }

    /// Name, and forward from 6 values.
    private static let forwards: [(String, Forward)] = [
        (
            "a layer on two grids: its bias in two units",
            Forward(parameters: [parameter([8, 6], 1), parameter([8], 2)]) { x, p in
                let weight = p[0].fakeQuantized(weights())
                let one = x.fakeQuantized(grid(0, 1)).linear(weight: weight, bias: p[1])
                let two = x.scaled(by: 10).fakeQuantized(grid(0, 10))
                    .linear(weight: weight, bias: p[1])
                return one + two
            }
        ),
        (
            "a weight that a large bias widens, read twice",
            Forward(parameters: [
                parameter([8, 6], 3, scale: 1e-9), parameter([8], 4, scale: 9), parameter([8], 5),
            ]) { x, p in
                let fine = QuantizationParameters(
                    scheme: .weights(bits: 8), low: [Float](repeating: -1e-8, count: 8),
                    high: [Float](repeating: 1e-8, count: 8))
                let weight = p[0].fakeQuantized(fine)
                let codes = x.fakeQuantized(grid(0, 1))
                let small = codes.linear(weight: weight, bias: nil).scaled(by: 1e8)
                return small + codes.linear(weight: weight, bias: p[1])
            }
        ),
        (
            "an affine weight with a bias",
            Forward(parameters: [parameter([8, 6], 6), parameter([8], 7)]) { x, p in
                x.fakeQuantized(grid(0, 1))
                    .linear(weight: p[0].fakeQuantized(weights(isSymmetric: false)), bias: p[1])
            }
        ),
        (
            "scales along the inputs",
            Forward(parameters: [parameter([8, 6], 8), parameter([8], 9)]) { x, p in
                x.fakeQuantized(grid(0, 1))
                    .linear(weight: p[0].fakeQuantized(weights(axis: 1, count: 6)), bias: p[1])
            }
        ),
        (
            "one scale for a weight",
            Forward(parameters: [parameter([8, 6], 10), parameter([8], 11)]) { x, p in
                x.fakeQuantized(grid(0, 1))
                    .linear(weight: p[0].fakeQuantized(weights(axis: nil)), bias: p[1])
            }
        ),
        (
            "a bias on a signed grid of values",
            Forward(parameters: [parameter([8, 6], 12), parameter([8], 13)]) { x, p in
                x.fakeQuantized(grid(-1, 1, isSigned: true))
                    .linear(weight: p[0].fakeQuantized(weights()), bias: p[1])
            }
        ),
        (
            "biases and other constants on grids",
            Forward(parameters: [
                parameter([8, 6], 14), parameter([8], 15), parameter([6], 16),
            ]) { x, p in
                (x + p[2].fakeQuantized(grid(0, 1))).linear(
                    weight: p[0].fakeQuantized(weights()),
                    bias: p[1].fakeQuantized(grid(-1, 1, isSigned: true)))
            }
        ),
        (
            "one weight, two norms",
            Forward(parameters: [parameter([8, 6], 17)]) { x, p in
                norm(x.linear(weight: p[0], bias: nil), 1)
                    + norm(x.relu().linear(weight: p[0], bias: nil), 2)
            }
        ),
        (
            "a masked weight, read twice",
            Forward(parameters: [
                parameter([8, 6], 18, mask: Mask(shape: [8, 6]) { $0 % 3 == 0 })
            ]) { x, p in
                x.linear(weight: p[0], bias: nil)
                    + x.linear(weight: p[0].fakeQuantized(weights()), bias: nil)
            }
        ),
        (
            "a relu on a grid whose input is read again",
            Forward(parameters: [parameter([8, 6], 19)]) { x, p in
                let y = x.linear(weight: p[0], bias: nil)
                return y.relu().fakeQuantized(grid(0, 3)) + y
            }
        ),
        (
            "a grid too fine for its bias",
            Forward(parameters: [parameter([8, 6], 20), parameter([8], 21, scale: 1e9)]) { x, p in
                x.fakeQuantized(
                    QuantizationParameters(
                        scheme: .activations(bits: 8), scales: [1e-38], zeroPoints: [0])
                ).linear(weight: p[0].fakeQuantized(weights()), bias: p[1])
            }
        ),
    ]

    @Test("Folding changes no function", arguments: forwards.indices)
    func same(index: Int) throws {
        let (name, forward) = Self.forwards[index]
        let graph = try forward.recordedGraph(example: [6]).folded()
        let x = examples(5, [6], seed: UInt64(index))
        let want = evaluated(forward, x).elements
        let got = try Model(graph).run(x).elements
        let size = want.map(\.magnitude).max() ?? 0
        for (a, b) in zip(got, want) {
            #expect(abs(a - b) <= 2e-4 * max(size, 1), "\(name): \(a), tape \(b)")
        }
    }
}
