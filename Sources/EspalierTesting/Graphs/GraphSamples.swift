import EspalierEngine
package import EspalierGraph
package import EspalierNN
package import EspalierTensors

/// Graphs to write and read.
package enum GraphSamples {
    package static func codes(
        _ shape: Shape, seed: UInt64, bits: Int = 8, axis: Int? = 0, isSymmetric: Bool = true,
        mask: Mask? = nil
    ) -> QuantizedTensor {
        let scheme = QuantizationScheme(
            bits: bits, isSigned: true, isSymmetric: isSymmetric,
            granularity: axis.map { .channel(axis: $0) } ?? .tensor)
        let range = scheme.codes
        let random = RandomStream(seed: seed)
        let codes = random.integers(shape.elementCount, below: range.count)
        let channels = axis.map { shape[$0] } ?? 1
        let parameters = QuantizationParameters(
            scheme: scheme, scales: (0..<channels).map { 0.01 + Float($0) / 512 },
            zeroPoints: (0..<channels).map {
                isSymmetric ? 0 : range.lowerBound + Int32($0 * 3 % range.count)
            })
        return QuantizedTensor(
            shape: shape,
            codes: codes.enumerated().map { index, code in
                mask?.isLive(index) ?? true ? Int8(range.lowerBound + Int32(code)) : 0
            }, parameters: parameters)
    }

    package static func constant(
        _ name: String, _ shape: Shape, seed: UInt64 = 1, mask: Mask? = nil
    ) -> Graph.Constant {
        let values = Fixtures.normal(shape, seed: seed).elements
        let masked = values.enumerated().map { mask?.isLive($0) ?? true ? $1 : 0 }
        return Graph.Constant(
            name: name, value: .floats(Tensor(masked, shape: shape)), mask: mask)
    }

    /// A mask of whole blocks, of which about one in `every` lives.
    package static func mask(
        _ shape: Shape, outputs: Int, inputs: Int, every: Int, seed: UInt64 = 3
    ) -> Mask {
        let width = shape.dropFirst().reduce(1, *)
        let across = width / inputs
        let draws = RandomStream(seed: seed).integers(shape.elementCount, below: every)
        return Mask(shape: shape) { index in
            draws[index / width / outputs * across + index % width / inputs] == 0
        }
    }

    package static func grid(_ scale: Float, zeroPoint: Int32 = 0) -> QuantizationParameters {
        QuantizationParameters(
            scheme: .activations(bits: 8), scales: [scale], zeroPoints: [zeroPoint])
    }

    /// One op on one input, and constants behind it.
    package static func single(_ op: Op, _ example: Shape, _ constants: [Graph.Constant] = [])
        -> Graph
    {
        Graph(
            input: Graph.Input(name: "x", example: example), constants: constants,
            nodes: [
                Graph.Node(
                    name: op.entry.name, op: op,
                    operands: [.input] + constants.indices.map { .constant($0) })
            ], output: .node(0))
    }

    package static func recorded(
        _ architecture: Architecture, input: Shape, pruned: [String: Mask] = [:]
    ) throws -> Graph {
        let network = try Network(
            architecture, input: input, classes: 5, random: RandomStream(seed: 4))
        let set = ParameterSet(network)
        for (name, mask) in pruned { set[name]?.setMask(mask) }
        var names: [ObjectIdentifier: String] = [:]
        for entry in set.entries { names[ObjectIdentifier(entry.parameter)] = entry.name }
        return try Graph.recorded(example: input, names: names) { network($0) }.folded()
    }

    /// The convolutional network of the quickstart: INT8, two layers of it sparse in blocks of 1x4.
    package static func quantizedConvnet(
        image: Int = 8, channels: [Int] = [32, 64], hidden: Int = 128, classes: Int = 10,
        live: Int = 10
    ) -> Graph {
        var graph = Graph(
            input: Graph.Input(
                name: "input", example: [image, image, 1], quantization: grid(1.0 / 16)),
            constants: [], nodes: [], output: .input)
        var last = Graph.Operand.input
        func add(_ name: String, _ op: Op, weight shape: Shape? = nil, isSparse: Bool = false) {
            var node = Graph.Node(name: name, op: op, operands: [last])
            if let shape {
                let mask = isSparse ? share(shape, live: live) : nil
                let seed = UInt64(graph.nodes.count)
                graph.constants.append(
                    Graph.Constant(
                        name: name + ".weight",
                        value: .codes(codes(shape, seed: seed, mask: mask)), mask: mask))
                graph.constants.append(
                    Graph.Constant(
                        name: name + ".bias",
                        value: .sums((0..<shape[0]).map { Int32($0 * 1001 - 500) })))
                node.operands += [
                    .constant(graph.constants.count - 2), .constant(graph.constants.count - 1),
                ]
            }
            if name != "head", shape != nil {
                node.activation = .relu
                node.quantization = grid(1.0 / 32)
            }
            graph.nodes.append(node)
            last = .node(graph.nodes.count - 1)
        }
        let convolution = Op.conv2D(Op.Conv2D(padding: Padding2D(Size2D(1))))
        let pool = Op.maxPool2D(
            Op.MaxPool2D(window: Window2D(kernel: Size2D(2), stride: Size2D(2))))
        add("conv1", convolution, weight: [channels[0], 3, 3, 1])
        add("max_pool2d1", pool)
        add("conv2", convolution, weight: [channels[1], 3, 3, channels[0]], isSparse: true)
        add("max_pool2d2", pool)
        add("reshape1", .reshape(Op.Reshape(to: [-1, image * image / 16 * channels[1]])))
        add(
            "hidden", .linear(Op.Linear()), weight: [hidden, image * image / 16 * channels[1]],
            isSparse: true)
        add("head", .linear(Op.Linear()), weight: [classes, hidden])
        graph.output = last
        return graph
    }

    /// One in `live` blocks of 1x4, exactly.
    private static func share(_ shape: Shape, live: Int) -> Mask {
        let blocks = shape.elementCount / 4
        // 7 is no divisor of the number of blocks: all rows get some.
        return Mask(shape: shape) { index in
            index / 4 * 7 % blocks < (blocks + live / 2) / live
        }
    }

    /// Small enough to break at every bit.
    package static let tiny = quantizedConvnet(
        image: 4, channels: [4, 8], hidden: 8, classes: 3, live: 4)
}
