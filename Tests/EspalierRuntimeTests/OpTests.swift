import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

/// A forward of any ops, over parameters p0, p1, ...
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

private func parameter(_ shape: Shape, _ seed: UInt64, scale: Float = 0.3) -> Parameter {
    Parameter(
        Tensor(
            RandomStream(seed: seed).normal(shape.elementCount).map { $0 * scale }, shape: shape))
}

private func grid(_ low: Float, _ high: Float, isSigned: Bool = false) -> QuantizationParameters {
    let scheme = QuantizationScheme(
        bits: 8, isSigned: isSigned, isSymmetric: isSigned, granularity: .tensor)
    return QuantizationParameters(scheme: scheme, low: [low], high: [high])
}

private let window2 = Window2D(kernel: Size2D(2), stride: Size2D(2))

/// Each op and each way from codes to floats and back, against the tape.
private let forwards: [(name: String, example: Shape, tolerance: Float, Forward)] = [
    (
        "average pool, scale, relu", [5, 6, 3], 1e-6,
        Forward(parameters: []) { x, _ in
            x.averagePool2D(Window2D(kernel: Size2D(3), padding: Padding2D(Size2D(1))))
                .scaled(by: -2).relu()
        }
    ),
    (
        "max pool of floats with padding", [5, 6, 3], 0,
        Forward(parameters: []) { x, _ in
            x.scaled(by: -1).maxPool2D(
                Window2D(kernel: Size2D(3), stride: Size2D(2), padding: Padding2D(Size2D(1))))
        }
    ),
    (
        "softmax", [7], 1e-6, Forward(parameters: []) { x, _ in x.softmax() }
    ),
    (
        "logarithm of softmax of pixels", [3, 3, 5], 1e-6,
        Forward(parameters: []) { x, _ in x.logSoftmax() }
    ),
    (
        "residual", [4, 4, 8], 1e-5,
        Forward(parameters: [parameter([8, 3, 3, 8], 1, scale: 0.1)]) { x, p in
            let same = Op.Conv2D(padding: Padding2D(Size2D(1)))
            return (x.conv2D(weight: p[0], bias: nil, same) + x).relu()
        }
    ),
    (
        "a relu whose input is read again", [6], 0,
        Forward(parameters: []) { x, _ in
            let y = x.scaled(by: -1)
            return y.relu() + y
        }
    ),
    (
        "constants added, also broadcast", [2, 3, 4], 1e-6,
        Forward(parameters: [
            parameter([4], 2), parameter([2, 1, 4], 3), parameter([1, 2, 3, 1], 4),
        ]) { x, p in x + p[0] + p[1] + p[2] }
    ),
    (
        "linear over pixels", [3, 5, 6], 1e-5,
        Forward(parameters: [parameter([10, 6], 5), parameter([10], 6)]) { x, p in
            x.linear(weight: p[0], bias: p[1])
        }
    ),
    (
        "codes under another shape, channels not by four", [4, 4, 3], 0.02,
        Forward(parameters: [parameter([9, 12], 7), parameter([3, 12], 17)]) { x, p in
            let codes = x.fakeQuantized(grid(0, 1)).maxPool2D(window2).flattened()
            let hidden = codes.linear(weight: quantized(p[0]), bias: nil)
                .relu().fakeQuantized(grid(0, 3))
            return hidden.reshaped(to: [hidden.shape[0], 3, 3]).flattened()
        }
    ),
    (
        "a float layer on codes", [8], 1e-5,
        Forward(parameters: [parameter([4, 8], 8)]) { x, p in
            x.fakeQuantized(grid(-1, 1)).linear(weight: p[0], bias: nil)
        }
    ),
    (
        "integer weights on floats", [8], 1e-5,
        Forward(parameters: [parameter([4, 8], 9)]) { x, p in
            x.linear(weight: quantized(p[0]), bias: nil)
        }
    ),
    (
        "a signed grid between", [8], 0.01,
        Forward(parameters: [parameter([4, 8], 10)]) { x, p in
            x.scaled(by: -1).fakeQuantized(grid(-1, 1, isSigned: true))
                .linear(weight: quantized(p[0]), bias: nil)
        }
    ),
    (
        "a grid that is finer than the sums", [8], 1e-4,
        Forward(parameters: [parameter([4, 8], 11, scale: 300)]) { x, p in
            x.fakeQuantized(grid(-100, 100)).linear(weight: quantized(p[0]), bias: nil)
                .fakeQuantized(grid(0, 1e-3)).scaled(by: 1)
        }
    ),
    (
        "codes read twice", [8], 0.02,
        Forward(parameters: [parameter([8, 8], 12)]) { x, p in
            let codes = x.fakeQuantized(grid(0, 1))
            return codes.linear(weight: quantized(p[0]), bias: nil) + codes
        }
    ),
    (
        "average pool of codes, back on a grid", [4, 4, 5], 0.005,
        Forward(parameters: []) { x, _ in
            x.fakeQuantized(grid(0, 1)).averagePool2D(window2).fakeQuantized(grid(0, 1))
        }
    ),
    (
        "a bias too large for its weights", [4], 1e-2,
        Forward(parameters: [parameter([2, 4], 13, scale: 1e-12), parameter([2], 14, scale: 9)]) {
            x, p in x.fakeQuantized(grid(0, 1)).linear(weight: quantized(p[0]), bias: p[1])
        }
    ),
]

// Symmetric, one scale an output.
private func quantized(_ weight: Value) -> Value {
    let size = weight.tensor.count / weight.shape[0]
    let elements = weight.tensor.elements
    let largest = (0..<weight.shape[0]).map { output in
        elements[output * size..<(output + 1) * size].map(\.magnitude).max() ?? 0
    }
    return weight.fakeQuantized(
        QuantizationParameters(
            scheme: .weights(bits: 8), low: largest.map { -$0 }, high: largest))
}

@Suite("Ops of the runtime against the tape") struct OpTests {
    @Test("Every op and every change of form", arguments: forwards.indices)
    func same(index: Int) throws {
        let (name, example, tolerance, forward) = forwards[index]
        let graph = try forward.recordedGraph(example: example).folded()
        let model = try Model(graph)
        for batch in [1, 5] {
            let x = examples(batch, example, seed: UInt64(index + 1))
            let (got, want) = (model.run(x), evaluated(forward, x))
            #expect(got.shape == want.shape, "\(name)")
            for (a, b) in zip(got.elements, want.elements) {
                #expect(abs(a - b) <= tolerance * max(1, abs(b)), "\(name): \(a), tape \(b)")
            }
        }
    }

    @Test("What depends on the batch, or is for training, is not recorded")
    func refused() throws {
        let byBatch = Forward(parameters: []) { x, _ in x.scaled(by: Float(x.shape[0])) }
        #expect(throws: GraphError.self) { try byBatch.recordedGraph(example: [3]) }
        let otherOps = Forward(parameters: []) { x, _ in x.shape[0] == 2 ? x.relu() : x.softmax() }
        #expect(throws: GraphError.self) { try otherOps.recordedGraph(example: [3]) }
        let merged = Forward(parameters: []) { x, _ in x.reshaped(to: [x.shape[0] * 3]) }
        #expect(throws: GraphError.self) { try merged.recordedGraph(example: [3]) }
        let fed = Forward(parameters: []) { x, _ in x + x.tape.input(.zeros([3])) }
        #expect(throws: GraphError.self) { try fed.recordedGraph(example: [3]) }
        let norm = Forward(parameters: [parameter([3], 1), parameter([3], 2)]) { x, p in
            x.relu().batchNorm(
                weight: p[0], bias: p[1],
                running: Op.BatchNorm.Moments(
                    mean: .zeros([3]), variance: Tensor(repeating: 1, shape: [3])),
                epsilon: 1e-5, owner: Parameter(.zeros([1])))
        }
        let error = #expect(throws: GraphError.self) {
            try norm.recordedGraph(example: [3]).folded()
        }
        #expect(error?.description.contains("batch_norm") == true)
    }
}
