import EspalierGraph
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

/// Linear layers on codes at the edge of what integers can do, against the same in doubles.
@Suite struct IntegerLimitTests {
    /// A layer of 5 inputs and 4 outputs, whose parts can be made extreme.
    private struct Layer {
        var input = GraphSamples.grid(1.0 / 64, zeroPoint: 30)
        var weight = GraphSamples.codes([4, 5], seed: 4)
        var bias: Graph.Constant.Value? = nil
        var activation = Graph.Activation.none
        var grid: QuantizationParameters? = nil

        var graph: Graph {
            var graph = GraphSamples.single(
                .linear(Op.Linear()), [5], [Graph.Constant(name: "w", value: .codes(weight))])
            graph.input.quantization = input
            if let bias {
                graph.constants.append(Graph.Constant(name: "b", value: bias))
                graph.nodes[0].operands.append(.constant(1))
            }
            graph.nodes[0].activation = activation
            graph.nodes[0].quantization = grid
            return graph
        }

        private func onGrid(_ x: Double, _ grid: QuantizationParameters) -> Double {
            let code = (x / Double(grid.scales[0])).rounded(.toNearestOrEven)
            let codes = grid.scheme.codes
            let zero = Double(grid.zeroPoints[0])
            let clamped = min(max(code + zero, Double(codes.lowerBound)), Double(codes.upperBound))
            return (clamped - zero) * Double(grid.scales[0])
        }

        func expected(_ x: [Float]) -> [Double] {
            let x = x.map { onGrid(Double($0), input) }
            let scheme = weight.parameters
            return (0..<4).map { output in
                var sum = 0.0
                for k in 0..<5 {
                    let channel =
                        scheme.scales.count == 1 ? 0 : scheme.scheme.axis == 0 ? output : k
                    let code = Int32(weight.codes[5 * output + k]) - scheme.zeroPoints[channel]
                    sum += x[k] * Double(code) * Double(scheme.scales[channel])
                }
                switch bias {
                case .floats(let values)?: sum += Double(values.elements[output])
                case .sums(let values)?:
                    let scale = scheme.scales[scheme.scales.count == 1 ? 0 : output]
                    sum += Double(values[output]) * Double(scale) * Double(input.scales[0])
                default: break
                }
                if activation == .relu { sum = max(sum, 0) }
                return grid.map { onGrid(sum, $0) } ?? sum
            }
        }
    }

    private func scaled(_ scales: [Float]) -> QuantizedTensor {
        let tensor = GraphSamples.codes([4, 5], seed: 4)
        return QuantizedTensor(
            shape: tensor.shape, codes: tensor.codes,
            parameters: QuantizationParameters(
                scheme: tensor.parameters.scheme, scales: scales,
                zeroPoints: tensor.parameters.zeroPoints))
    }

    private func check(
        _ name: String, _ layer: Layer, isInteger: Bool,
        _ location: SourceLocation = #_sourceLocation
    ) throws {
        let model = try Model(layer.graph)
        let kernels = model.plan(for: 1).steps.map(\.kernel)
        #expect(
            kernels.contains { $0.hasPrefix("INT8") } == isInteger, "\(name): \(kernels)",
            sourceLocation: location)
        let range = layer.input.scales[0] * 255
        let x = RandomStream(seed: 8).uniform(15).map { ($0 - 0.1) * range }
        // Results that are no normal floats may be 0.
        let (step, least) = (Double(layer.grid?.scales[0] ?? 0), 0x1p-126)
        for isa in ISA.available {
            let got = model.run(Tensor(x, shape: [3, 5]), isa: isa).elements
            for example in 0..<3 {
                let want = layer.expected(Array(x[5 * example..<5 * example + 5]))
                let size = want.map(\.magnitude).max() ?? 0
                for output in 0..<4 {
                    let value = Double(got[4 * example + output])
                    #expect(
                        abs(value - want[output]) <= 1e-4 * size + step * 1.001 + least,
                        "\(name), \(isa): \(value), exactly \(want[output])",
                        sourceLocation: location)
                }
            }
        }
    }

    @Test("Codes on codes, biases of any form")
    func usual() throws {
        try check("no bias", Layer(), isInteger: true)
        try check(
            "a bias of sums", Layer(bias: .sums([1000, -2000, 0, 300_000])), isInteger: true)
        let values = Tensor([1, -2, 0, 30], shape: [4])
        try check("a bias of floats", Layer(bias: .floats(values)), isInteger: true)
        try check(
            "relu on a grid of 4 bits with a zero point",
            Layer(
                activation: .relu,
                grid: QuantizationParameters(
                    scheme: .activations(bits: 4), scales: [0.5], zeroPoints: [3])),
            isInteger: true)
    }

    @Test("Codes with zero points, or scales along the inputs, are floats")
    func otherSchemes() throws {
        let affine = GraphSamples.codes([4, 5], seed: 2, isSymmetric: false)
        try check("affine", Layer(weight: affine), isInteger: false)
        let across = GraphSamples.codes([4, 5], seed: 2, axis: 1)
        try check("scales of inputs", Layer(weight: across), isInteger: false)
        let signed = QuantizationParameters(
            scheme: .weights(bits: 8, per: .tensor), scales: [1.0 / 64], zeroPoints: [0])
        try check("a signed input", Layer(input: signed), isInteger: false)
        try check(
            "a signed input, a bias of sums", Layer(input: signed, bias: .sums([1, 2, 3, 400])),
            isInteger: false)
    }

    @Test("Products of scales that are no good numbers are floats")
    func scales() throws {
        let (tiny, large): (Float, Float) = (1e-30, 1e30)
        for (name, input, weights) in [
            ("a product that vanishes", tiny, [1e-20, 1e-20, 1e-20, 1e-20]),
            ("a product that is not normal", 1e-20, [1e-20, 1e-20, 1e-20, 1e-20]),
            ("one of four", tiny, [1e-20, 1, 1, 1]),
            ("a product above 1", 4, [0.25, 0.5, 1, 1]),
            ("a product that overflows", large, [1e8, 1e8, 1e8, 1e8]),
        ] as [(String, Float, [Float])] {
            for bias: Graph.Constant.Value? in [nil, .sums([3, -4, 100, 5000])] {
                let layer = Layer(
                    input: GraphSamples.grid(input, zeroPoint: 30), weight: scaled(weights),
                    bias: bias)
                // Infinite in floats as well.
                guard name != "a product that overflows" else {
                    _ = try Model(layer.graph).run([1, 2, 3, 4, 5])
                    continue
                }
                try check(name, layer, isInteger: false)
            }
        }
        for grid in [Float.leastNonzeroMagnitude, 0x1p-130, 1e38] {
            // Finer than the sums, or as coarse that all is 0: no trap, and all on the grid.
            let layer = Layer(activation: .relu, grid: GraphSamples.grid(grid, zeroPoint: 5))
            let values = try Model(layer.graph).run([1, 2, 3, 4, 5])
            #expect(values.allSatisfy { $0 >= 0 && $0 <= 250 * grid })
        }
        // x / scale is infinite.
        let fine = Layer(input: GraphSamples.grid(.leastNonzeroMagnitude))
        #expect(try Model(fine.graph).run([1, -1, .nan, 1e38, 0]).allSatisfy(\.isFinite))
    }

    @Test("Sums that could leave 32 bits are floats")
    func largeSums() throws {
        let limit = Int32.max
        try check(
            "biases at the end of the range", Layer(bias: .sums([limit, -limit, limit, .min])),
            isInteger: false)
        let values = Tensor([1e9, -1e9, 1e30, -1e30], shape: [4])
        try check("floats beyond the range", Layer(bias: .floats(values)), isInteger: false)
        // All operands at their ends, at the greatest depth of integers.
        for (depth, isInteger) in [(32_768, true), (32_772, false)] {
            let codes = (0..<4 * depth).map { Int8($0 / depth % 2 == 0 ? 127 : -127) }
            let weight = QuantizedTensor(
                shape: [4, depth], codes: codes,
                parameters: QuantizationParameters(
                    scheme: .weights(bits: 8, per: .tensor), scales: [0.5], zeroPoints: [0]))
            for zero: Int32 in [0, 255] {
                var graph = GraphSamples.single(
                    .linear(Op.Linear()), [depth],
                    [
                        Graph.Constant(name: "w", value: .codes(weight)),
                        Graph.Constant(
                            name: "b",
                            value: .sums([(1 << 30) - 1, 1 - (1 << 30), 1 - (1 << 30), 0])),
                    ])
                graph.input.quantization = GraphSamples.grid(1, zeroPoint: zero)
                let model = try Model(graph)
                #expect(
                    model.plan(for: 1).steps.contains { $0.kernel.hasPrefix("INT8") } == isInteger)
                let x = [Float](repeating: zero == 0 ? 255 : -255, count: depth)
                let sum = Double(x[0]) * 127 * Double(depth)
                let bias = [Double(1 << 30) - 1, 1 - Double(1 << 30), 1 - Double(1 << 30), 0]
                for isa in ISA.available {
                    let got = model.run(Tensor(x, shape: [1, depth]), isa: isa).elements
                    for output in 0..<4 {
                        let want = ((output % 2 == 0 ? sum : -sum) + bias[output]) / 2
                        #expect(abs(Double(got[output]) - want) <= 1e-4 * (1e9 + want.magnitude))
                    }
                }
            }
        }
    }
}
