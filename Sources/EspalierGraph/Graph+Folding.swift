package import EspalierTensors

// What a recorded training network needs to be run: masks and weight quantization become constants, norms vanish into
// the layers before them, activations and grids into the nodes that make their values.
extension Graph {
    /// The graph as it ships.
    ///
    /// - Throws: `GraphError` where an op is left that only training has.
    package func folded() throws(GraphError) -> Graph {
        var graph = self
        graph.foldMasks()
        graph.foldNorms()
        graph.foldWeightQuantization()
        graph.fuse()
        graph.removeUnused()
        graph.packBiases()
        for node in graph.nodes where !node.op.entry.isForInference {
            throw GraphError(
                "node '\(node.name)': \(node.op.entry.name) cannot be exported"
                    + (node.op.entry.name == "batch_norm"
                        ? " unless it follows a convolution or linear layer of its own" : ""))
        }
        return graph
    }

    private func constant(_ operand: Operand) -> Int? {
        if case .constant(let index) = operand { return index }
        return nil
    }

    // A node is replaced by one of its operands, or by a constant, everywhere.
    private mutating func replace(_ node: Int, by other: Operand) {
        // What was the node's value is now that of the other.
        if case .node(let index) = other { nodes[index].source = nodes[node].source }
        if case .input = other { input.source = nodes[node].source }
        for index in nodes.indices {
            nodes[index].operands = nodes[index].operands.map { $0 == .node(node) ? other : $0 }
        }
        if output == .node(node) { output = other }
        // It reads nothing any more, and goes at the end.
        nodes[node].operands = []
    }

    // The value of a parameter is +0 where its mask does not live; so the constant only takes note of it.
    private mutating func foldMasks() {
        for index in nodes.indices {
            guard case .mask(let op) = nodes[index].op,
                let constant = constant(nodes[index].operands[0]),
                case .floats(let tensor) = constants[constant].value
            else { continue }
            let values = tensor.elements.enumerated().map { op.mask.isLive($0) ? $1 : 0 }
            let masked = Tensor(values, shape: tensor.shape)
            if constants[constant].mask == nil, masked.isIdentical(to: tensor) {
                constants[constant].mask = op.mask
                replace(index, by: .constant(constant))
            } else {
                // Others see it under another mask, or under none.
                constants.append(
                    Constant(name: constants[constant].name, value: .floats(masked), mask: op.mask))
                replace(index, by: .constant(constants.count - 1))
            }
        }
    }

    private mutating func foldNorms() {
        for index in nodes.indices {
            guard case .batchNorm(let norm) = nodes[index].op, let moments = norm.moments,
                case .node(let layer) = nodes[index].operands[0], readers[layer] == 1,
                isLayer(layer), let weight = constant(nodes[layer].operands[1]),
                case .floats(let tensor) = constants[weight].value
            else { continue }
            let own = nodes[index].operands.dropFirst().compactMap { floats($0) }
            let bias = nodes[layer].operands.count > 2 ? floats(nodes[layer].operands[2]) : nil
            guard own.count == nodes[index].operands.count - 1,
                (bias != nil) == (nodes[layer].operands.count > 2)
            else { continue }
            let folded = norm.folded(
                moments, scale: own.first, shift: own.dropFirst().first, into: tensor, bias: bias)
            constants.append(
                Constant(
                    name: constants[weight].name, value: .floats(folded.weight),
                    mask: constants[weight].mask))
            constants.append(
                Constant(name: nodes[layer].name + ".bias", value: .floats(folded.bias)))
            nodes[layer].operands = [
                nodes[layer].operands[0], .constant(constants.count - 2),
                .constant(constants.count - 1),
            ]
            replace(index, by: .node(layer))
        }
    }

    private func floats(_ operand: Operand) -> Tensor? {
        guard let index = constant(operand), case .floats(let tensor) = constants[index].value
        else { return nil }
        return tensor
    }

    private func isLayer(_ index: Int) -> Bool {
        switch nodes[index].op {
        case .linear, .conv2D: true
        default: false
        }
    }

    private mutating func foldWeightQuantization() {
        for index in nodes.indices {
            guard case .fakeQuantize(let op) = nodes[index].op,
                let source = constant(nodes[index].operands[0]),
                case .floats(let tensor) = constants[source].value
            else { continue }
            let value: Constant.Value
            if op.parameters.scheme.isSigned, isWeightAlone(index) {
                value = .codes(QuantizedTensor(tensor, op.parameters))
            } else {
                // Only weights are kept as codes.
                value = .floats(op.parameters.onGrid(tensor))
            }
            constants.append(
                Constant(
                    name: constants[source].name, value: value, mask: constants[source].mask))
            replace(index, by: .constant(constants.count - 1))
        }
    }

    // Whether a node's value is read as the weight of layers, and as nothing else.
    private func isWeightAlone(_ node: Int) -> Bool {
        output != .node(node)
            && nodes.indices.allSatisfy { reader in
                nodes[reader].operands.enumerated().allSatisfy { position, operand in
                    operand != .node(node) || (isLayer(reader) && position == 1)
                }
            }
    }

    // ReLU, then the grid, into the one node that makes the values.
    private mutating func fuse() {
        for index in nodes.indices {
            guard let first = nodes[index].operands.first else { continue }
            guard case .node(let source) = first, readers[source] == 1,
                nodes[source].quantization == nil
            else {
                fuseIntoInput(index)
                continue
            }
            switch nodes[index].op {
            case .relu where nodes[source].activation == .none && takesActivation(source):
                nodes[source].activation = .relu
            case .fakeQuantize(let op) where op.parameters.scheme.granularity == .tensor:
                nodes[source].quantization = op.parameters
            default: continue
            }
            replace(index, by: .node(source))
        }
    }

    private mutating func fuseIntoInput(_ index: Int) {
        guard case .fakeQuantize(let op) = nodes[index].op, nodes[index].operands == [.input],
            op.parameters.scheme.granularity == .tensor, input.quantization == nil,
            nodes.flatMap(\.operands).count(where: { $0 == .input }) == 1, output != .input
        else { return }
        input.quantization = op.parameters
        replace(index, by: .input)
    }

    private func takesActivation(_ index: Int) -> Bool {
        if case .add = nodes[index].op { return true }
        return isLayer(index)
    }

    private mutating func removeUnused() {
        var isUsed = [Bool](repeating: false, count: nodes.count)
        if case .node(let last) = output { isUsed[last] = true }
        for index in nodes.indices.reversed() where isUsed[index] {
            for case .node(let other) in nodes[index].operands { isUsed[other] = true }
        }
        var newNodes = [Int: Int](), newConstants = [Int: Int]()
        let used = nodes.indices.filter { isUsed[$0] }
        for index in used { newNodes[index] = newNodes.count }
        for case .constant(let index) in used.flatMap({ nodes[$0].operands }) + [output]
        where newConstants[index] == nil {
            newConstants[index] = newConstants.count
        }
        func renumbered(_ operand: Operand) -> Operand {
            switch operand {
            case .input: .input
            case .node(let index): .node(newNodes[index] ?? index)
            case .constant(let index): .constant(newConstants[index] ?? index)
            }
        }
        constants = newConstants.sorted { $0.value < $1.value }.map { constants[$0.key] }
        nodes = used.map { index in
            var node = nodes[index]
            node.operands = node.operands.map(renumbered)
            return node
        }
        output = renumbered(output)
    }

    // Layers of integer weights on integer inputs add their bias as integers, in units of the sums.
    private mutating func packBiases() {
        var reads = [Int](repeating: 0, count: constants.count)
        for case .constant(let index) in nodes.flatMap(\.operands) { reads[index] += 1 }
        // A constant that other nodes read too stays as it is: their units are others.
        func replace(_ operand: Int, of node: Int, with value: Constant.Value) {
            guard case .constant(let index) = nodes[node].operands[operand] else { return }
            var own = constants[index]
            own.value = value
            if reads[index] == 1 {
                constants[index] = own
            } else {
                nodes[node].operands[operand] = .constant(constants.count)
                constants.append(own)
            }
        }
        for index in nodes.indices where isLayer(index) && nodes[index].operands.count > 2 {
            guard let weight = constant(nodes[index].operands[1]),
                let bias = constant(nodes[index].operands[2]),
                case .codes(let codes) = constants[weight].value, codes.isPerOutput,
                case .floats(let values) = constants[bias].value,
                let grid = grid(of: nodes[index].operands[0]), !grid.scheme.isSigned,
                values.firstNonFinite == nil,
                let (weights, sums) = codes.widened(for: values, inputScale: grid.scales[0])
            else { continue }
            if weights != codes { replace(1, of: index, with: .codes(weights)) }
            replace(2, of: index, with: .sums(sums))
        }
    }
}

extension Op.BatchNorm {
    /// Weight and bias of a layer that does what a layer and this norm behind it do in evaluation mode.
    ///
    /// weight' = weight s and bias' = (bias - mean) s + shift, with s = scale / sqrt(variance + epsilon) of each output;
    /// outputs are the weight's first axis.
    package func folded(
        _ moments: Moments, scale: Tensor?, shift: Tensor?, into weight: Tensor, bias: Tensor?
    ) -> (weight: Tensor, bias: Tensor) {
        let channels = moments.mean.count
        require(
            weight.shape[0] == channels, "a norm of \(channels) channels behind \(weight.shape)")
        let (mean, variance) = (moments.mean.elements, moments.variance.elements)
        let gains = scale?.elements ?? [Float](repeating: 1, count: channels)
        let shifts = shift?.elements ?? [Float](repeating: 0, count: channels)
        let factors = (0..<channels).map { gains[$0] / (variance[$0] + epsilon).squareRoot() }
        var folded = weight
        var values = folded.mutableSpan
        let size = weight.count / max(channels, 1)
        for index in values.indices { values[index] *= factors[index / size] }
        let old = bias?.elements ?? [Float](repeating: 0, count: channels)
        let new = (0..<channels).map { (old[$0] - mean[$0]) * factors[$0] + shifts[$0] }
        return (folded, Tensor(new, shape: [channels]))
    }
}

extension QuantizationParameters {
    /// The code of each value, with the channel whose scale it has.
    fileprivate func codes(of values: Tensor) -> [(code: Int32, channel: Int)] {
        let (channels, inner) = values.channelLayout(axis: scheme.axis)
        let elements = values.span
        return (0..<values.count).map { index in
            let channel = index / inner % channels
            return (
                Rounding.code(
                    elements[index], scale: scales[channel], zeroPoint: zeroPoints[channel],
                    codes: scheme.codes), channel
            )
        }
    }

    /// Values on this grid.
    fileprivate func onGrid(_ values: Tensor) -> Tensor {
        let elements = codes(of: values).map {
            Float($0.code - zeroPoints[$0.channel]) * scales[$0.channel]
        }
        return Tensor(elements, shape: values.shape)
    }
}

extension QuantizedTensor {
    /// The codes of values.
    init(_ values: Tensor, _ parameters: QuantizationParameters) {
        self.init(
            shape: values.shape, codes: parameters.codes(of: values).map { Int8($0.code) },
            parameters: parameters)
    }

    /// These weights and a bias as integers of the same unit, input scale times weight scale.
    ///
    /// Where the weights of an output are so small that its bias would not fit into 32 bits beside the sums, they get a
    /// larger scale: they contribute next to nothing. Nil where no scale does.
    ///
    /// - Precondition: the tensor `isPerOutput`.
    func widened(
        for bias: Tensor, inputScale: Float
    ) -> (weights: QuantizedTensor, bias: [Int32])? {
        // A unit of the sums is at least 1e-12, so that no product of scales vanishes.
        let (limit, floor): (Float, Float) = (0x1p26, 1e-12)
        let biases = bias.elements
        let inner = max(shape.elementCount / max(shape[0], 1), 1)
        var (scales, codes) = (scalesOfOutputs, self.codes)
        for output in 0..<shape[0] {
            let isDead = !codes[output * inner..<(output + 1) * inner].contains { $0 != 0 }
            let smallest = max(biases[output].magnitude / limit, floor) / inputScale
            guard isDead || scales[output] < smallest else { continue }
            guard smallest.isNormal else { return nil }
            for index in output * inner..<(output + 1) * inner {
                let value = Float(codes[index]) * scales[output]
                codes[index] = Int8(Rounding.nearest(value / smallest))
            }
            scales[output] = smallest
        }
        let units = (0..<shape[0]).map { biases[$0] / (inputScale * scales[$0]) }
        guard units.allSatisfy({ $0.magnitude < 0x1p30 }) else { return nil }
        let sums = units.map { Int32(Rounding.nearest($0)) }
        guard scales != scalesOfOutputs else { return (self, sums) }
        var scheme = parameters.scheme
        scheme.granularity = .channel(axis: 0)
        let zeros = [Int32](repeating: 0, count: scales.count)
        return (
            QuantizedTensor(
                shape: shape, codes: codes,
                parameters: QuantizationParameters(
                    scheme: scheme, scales: scales, zeroPoints: zeros)), sums
        )
    }
}
