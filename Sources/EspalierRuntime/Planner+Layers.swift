import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Planner {
    /// What is the same for a layer in any arithmetic.
    struct LayerShape {
        let outputs: Int
        var taps: Int
        var channels: Int
        /// Nil for a linear layer.
        let window: esp_window?
        let input: PixelLayout
        let output: PixelLayout

        var depth: Int { taps * channels }
    }

    /// Adds a linear layer or a convolution: on integers where weights and input are such, else on floats.
    mutating func addLayer(_ index: Int) throws(GraphError) {
        let shape = try layerShape(index)
        if let integers = try IntegerLayer(self, index, shape) {
            try addInteger(index, shape, integers)
            return
        }
        let node = graph.nodes[index]
        let source = try floats(node.operands[0])
        let weights = try floatConstant(node.operands[1])
        var bias = [Float](repeating: 0, count: shape.outputs)
        if let values = graph.floatBias(of: index) {
            bias = values.elements
        } else if node.operands.count > 2 {
            bias = try floatConstant(node.operands[2]).elements
        }
        guard bias.count == shape.outputs else { throw GraphError("its bias does not fit") }
        let layer = packed.layer(PackedLayers.Key(node: index, form: .float)) {
            .float(
                DenseFloat(
                    weights.elements, bias: bias, outputs: shape.outputs, taps: shape.taps,
                    channels: shape.channels, relu: node.activation == .relu))
        }
        guard case .float(let layer) = layer else { throw GraphError("packed otherwise") }
        let target = floatSlot(for: .node(index))
        add(
            DenseFloatStep(
                name: node.name, layer: layer, window: shape.window, source: source,
                target: target, input: shape.input, output: shape.output))
        setFloats(.node(index), target)
        try finish(index, hasActivation: true)
    }

    private func layerShape(_ index: Int) throws(GraphError) -> LayerShape {
        let node = graph.nodes[index]
        guard case .constant(let constant) = node.operands[1] else {
            throw GraphError("its weight is no constant")
        }
        if node.operands.count > 2 {
            guard case .constant = node.operands[2] else {
                throw GraphError("its bias is no constant")
            }
        }
        let weight = graph.constants[constant].shape
        let image = example(node.operands[0])
        let output = PixelLayout(example(.node(index)))
        guard case .conv2D(let op) = node.op else {
            return LayerShape(
                outputs: weight[0], taps: 1, channels: weight[1], window: nil,
                input: PixelLayout(image), output: output)
        }
        guard op.groups == 1 else {
            throw GraphError("a convolution of \(op.groups) groups: not supported here")
        }
        let taps = weight[1] * weight[2]
        guard taps <= mostTaps else {
            throw GraphError("a window of \(taps) taps: at most \(mostTaps) here")
        }
        return LayerShape(
            outputs: weight[0], taps: taps, channels: weight[3],
            window: esp_window(op.window(weight: weight), image: Shape([1] + image)),
            input: PixelLayout(image), output: output)
    }

    private func floatConstant(_ operand: Graph.Operand) throws(GraphError) -> Tensor {
        guard case .constant(let index) = operand else { throw GraphError("no constant") }
        switch graph.constants[index].value {
        case .floats(let tensor): return tensor
        case .codes(let codes): return codes.dequantized
        case .sums:
            throw GraphError("its bias counts units of integer sums, but its weight has none")
        }
    }
}

/// A layer of integer weights on an input of codes.
struct IntegerLayer {
    let weights: QuantizedTensor
    let requantization: Requantization
    let inputZeroPoint: UInt8
    let givesCodes: Bool
    /// Whether the requantization cuts off below zero.
    let hasActivation: Bool

    /// The layer of a node, or nil where it does not run on integers: another type of weight or input, sums that might
    /// leave 32 bits, or a result that is finer than its sums.
    ///
    /// - Throws: `GraphError` where its bias can only be understood in integers.
    init?(
        _ planner: borrowing Planner, _ index: Int, _ shape: Planner.LayerShape
    ) throws(GraphError) {
        let graph = planner.graph
        let node = graph.nodes[index]
        guard case .constant(let constant) = node.operands[1],
            case .codes(let weights) = graph.constants[constant].value,
            planner.codes(node.operands[0]) != nil, let grid = graph.grid(of: node.operands[0]),
            grid.isCodes, weights.isPerOutput, shape.depth <= 32_768
        else { return nil }
        let scales = weights.scalesOfOutputs.map { grid.scales[0] * $0 }
        let zero = grid.zeroPoints[0]
        guard let sums = try IntegerLayer.bias(node, graph, scales, outputs: shape.outputs),
            sums.allSatisfy({ $0.magnitude < 1 << 30 })
        else { return nil }
        let inner = shape.depth
        let bias = (0..<shape.outputs).map { output in
            let total = weights.codes[output * inner..<(output + 1) * inner].reduce(Int32(0)) {
                $0 + Int32($1)
            }
            return sums[output] - zero * total
        }
        // A product that is no normal number has lost its last bits: floats do better.
        func isBelowOne(_ scales: [Float]) -> Bool {
            scales.allSatisfy { $0 >= .leastNormalMagnitude && $0 < 1 }
        }
        self.weights = weights
        inputZeroPoint = UInt8(truncatingIfNeeded: zero)
        if let target = node.quantization, target.isCodes {
            let multipliers = scales.map { $0 / target.scales[0] }
            if isBelowOne(multipliers), scales.allSatisfy(\.isNormal) {
                let codes = target.scheme.codes
                let low =
                    node.activation == .relu
                    ? max(codes.lowerBound, target.zeroPoints[0]) : codes.lowerBound
                requantization = Requantization(
                    bias: bias, scale: multipliers, zeroPoint: target.zeroPoints[0],
                    range: low...codes.upperBound)
                (givesCodes, hasActivation) = (true, true)
                return
            }
        }
        guard isBelowOne(scales) else { return nil }
        requantization = Requantization(bias: bias, scale: scales, zeroPoint: 0)
        (givesCodes, hasActivation) = (false, false)
    }

    // The bias in units of the sums.
    private static func bias(
        _ node: Graph.Node, _ graph: Graph, _ scales: [Float], outputs: Int
    ) throws(GraphError) -> [Int32]? {
        guard node.operands.count > 2 else { return [Int32](repeating: 0, count: outputs) }
        guard case .constant(let index) = node.operands[2] else { return nil }
        switch graph.constants[index].value {
        case .sums(let values): return values.count == outputs ? values : nil
        case .floats(let tensor) where tensor.count == outputs:
            let sums = zip(tensor.elements, scales).map { $0 / $1 }
            guard sums.allSatisfy({ $0.magnitude < 0x1p30 }) else { return nil }
            return sums.map { Int32(Rounding.nearest($0)) }
        default: throw GraphError("its bias does not fit")
        }
    }
}
