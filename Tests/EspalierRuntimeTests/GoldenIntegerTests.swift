import EspalierGraph
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

/// Integer layers of the runtime against integers computed by PyTorch: the same sums, biases and codes.
@Suite struct GoldenIntegerTests {
    @Test(
        "int8_linear and int8_conv2d: every code as in the golden files, on every instruction set")
    func integerLayers() throws {
        var count = 0
        for folder in GoldenRunner.folders(package: Fixtures.packageRoot) {
            for isa in ISA.available {
                let report = try GoldenRunner.run(
                    folder,
                    [
                        "int8_linear": { try results($0, isa) },
                        "int8_conv2d": { try results($0, isa) },
                    ])
                for failure in report.failures { Issue.record("\(isa): \(failure)") }
                count += report.passed
            }
        }
        #expect(count >= ISA.available.count)
    }

    private func results(_ test: GoldenCase, _ isa: ISA) throws -> [String: GoldenResult] {
        let isConvolution = test.op == "int8_conv2d"
        // Images are channels-last here.
        func ours(_ tensor: Tensor) -> Tensor {
            isConvolution && tensor.shape.rank == 4
                ? tensor.permuted([0, 2, 3, 1]) : tensor
        }
        func integers(_ name: String) throws -> Tensor {
            let values = try test.integers(name)
            return ours(Tensor(values.elements.map(Float.init), shape: values.shape))
        }
        let grid = { (name: String) throws in
            QuantizationParameters(
                scheme: .activations(bits: 8),
                scales: [try test.tensor("input.\(name)_scale").scalar],
                zeroPoints: try test.integers("input.\(name)_zero_point").elements)
        }
        let (input, output) = (try grid("x"), try grid("y"))
        let codes = try integers("input.x")
        let x = Tensor(
            codes.elements.map { ($0 - Float(input.zeroPoints[0])) * input.scales[0] },
            shape: codes.shape)
        let weight = try integers("param.weight")
        let scales = try test.tensor("param.weight_scale").elements
        let scheme = QuantizationScheme(
            bits: 8, isSigned: true, isSymmetric: true,
            granularity: scales.count == 1 ? .tensor : .channel(axis: 0))
        var constants = [
            Graph.Constant(
                name: "layer.weight",
                value: .codes(
                    QuantizedTensor(
                        shape: weight.shape, codes: weight.elements.map { Int8($0) },
                        parameters: QuantizationParameters(
                            scheme: scheme, scales: scales,
                            zeroPoints: [Int32](repeating: 0, count: scales.count)))))
        ]
        if test.has("param.bias") {
            constants.append(
                Graph.Constant(
                    name: "layer.bias", value: .floats(try test.tensor("param.bias"))))
        }
        let stride = test.int("stride", default: 1)
        let op: Op =
            isConvolution
            ? .conv2D(
                Op.Conv2D(
                    stride: Size2D(stride),
                    padding: Padding2D(Size2D(test.int("padding", default: 0)))))
            : .linear(Op.Linear())
        let graph = Graph(
            input: Graph.Input(
                name: "input", example: Shape(x.shape.dropFirst()), quantization: input),
            constants: constants,
            nodes: [
                Graph.Node(
                    name: "layer", op: op,
                    operands: [.input] + constants.indices.map { .constant($0) },
                    quantization: output)
            ], output: .node(0))
        let model = try Model(graph)
        // One step each: quantized, computed on integers, read as floats.
        #expect(model.plan(for: 2).steps.map(\.name) == ["quantize", "layer", "dequantize"])
        let y = model.run(x, isa: isa)
        let result = isConvolution ? y.permuted([0, 3, 1, 2]) : y
        let found = result.elements.map {
            ($0 / output.scales[0]).rounded(.toNearestOrEven) + Float(output.zeroPoints[0])
        }
        // What stands between, the golden codes have been computed from.
        var results: [String: GoldenResult] = [
            "expected.y_u8": .tensor(Tensor(found, shape: result.shape))
        ]
        for name in test.results where results[name] == nil { results[name] = .covered }
        return results
    }
}
