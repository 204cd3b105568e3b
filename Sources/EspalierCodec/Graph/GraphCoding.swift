package import EspalierGraph
import EspalierTensors

extension Graph {
    /// The graph as a file.
    ///
    /// Masked constants are stored as the blocks that live, and a bit for each block, where this takes fewer bytes than
    /// all their elements; otherwise the elements stand in the file, zeros included, and the mask does not.
    ///
    /// - Parameters:
    ///   - description: Anything that a reader may want to know, such as the names of classes.
    ///   - producer: Name and version of the program.
    /// - Throws: `GraphError` where the graph makes no sense, or holds what files cannot.
    package func encoded(
        description: [UInt8]? = nil, producer: String? = nil
    ) throws(GraphError) -> [UInt8] {
        try container(description: description, producer: producer).encoded(isCompact: true)
    }

    /// The graph as layers: one a node, whose constants are its sub-layers.
    ///
    /// - Throws: `GraphError` as `encoded` does.
    package func container(
        description: [UInt8]? = nil, producer: String? = nil
    ) throws(GraphError) -> ContainerNetwork {
        try checkForFile(constants: constants.map { ($0.shape, ConstantContent($0.value)) })
        var encoder = GraphEncoder(graph: self)
        var layers: [ContainerNetwork.Layer] = []
        for index in nodes.indices { layers.append(try encoder.layer(index)) }
        var fields = [
            ContainerField(
                tag: GraphTags.opset, isCritical: true, bytes: bytes(Opset.version)),
            ContainerNetwork.field(input),
            ContainerField(
                tag: GraphTags.output, isCritical: true, bytes: bytes(GraphEncoder.layer(output))),
        ]
        if let description {
            fields.append(
                ContainerField(tag: GraphTags.description, isCritical: false, bytes: description))
        }
        if let producer {
            fields.append(
                ContainerField(
                    tag: GraphTags.producer, isCritical: false, bytes: Array(producer.utf8)))
        }
        return ContainerNetwork(layers: layers, fields: fields)
    }

    private func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        var writer = ByteWriter()
        writer.add(number)
        return writer.bytes
    }
}

/// Turns nodes into layers, in order.
private struct GraphEncoder {
    let graph: Graph
    /// Where each constant that was met stands: layer and operand.
    var places: [Int: (layer: UInt32, position: Int)] = [:]

    /// The layer that an operand is the result of; 0 for the input.
    static func layer(_ operand: Graph.Operand) -> UInt32 {
        if case .node(let index) = operand { return UInt32(index) + 1 }
        return 0
    }

    init(graph: Graph) { self.graph = graph }

    mutating func layer(_ index: Int) throws(GraphError) -> ContainerNetwork.Layer {
        let node = graph.nodes[index]
        func fail(_ problem: String) -> GraphError {
            GraphError("node '\(node.name)' (\(node.op.entry.name)): \(problem)")
        }
        guard node.name.utf8.count <= UInt16.max else { throw fail("its name is too long") }
        var layer = ContainerNetwork.Layer(
            id: UInt32(index) + 1, name: node.name, type: node.op.entry.number, inputs: [])
        var attributes = node.op.attributes
        // What could not be read back must not be written.
        do throws(OpsetError) {
            _ = try Op(number: layer.type, attributes: attributes)
        } catch {
            throw fail(error.description)
        }
        if node.activation != .none {
            attributes.append(
                Opset.Attribute(GraphTags.activation, [Int(node.activation.rawValue)]))
        }
        if let grid = node.quantization { attributes += GraphTags.gridAttributes(grid) }
        var own: [EncodedConstant] = []
        var (positions, shared) = ([Int](), [Int]())
        for (position, operand) in node.operands.enumerated() {
            guard case .constant(let constant) = operand else {
                layer.inputs.append(ContainerNetwork.Input(layer: GraphEncoder.layer(operand)))
                continue
            }
            positions.append(position)
            if let place = places[constant] {
                shared += [position, Int(place.layer), place.position]
                continue
            }
            places[constant] = (layer.id, position)
            own.append(
                try EncodedConstant(graph.constants[constant], isBias: node.op.isBias(position)))
        }
        layer.subLayers = own.flatMap(\.subLayers)
        let isUsual = positions == Array(layer.inputs.count..<node.operands.count)
        func add(_ tag: UInt16, _ values: [Int]) {
            if !values.isEmpty { attributes.append(Opset.Attribute(tag, values)) }
        }
        add(GraphTags.blocks, own.compactMap(\.blocks).flatMap { [$0.outputs, $0.inputs] })
        if !isUsual { add(GraphTags.positions, positions) }
        add(GraphTags.shared, shared)
        if !own.allSatisfy({ $0.name == $0.usualName(in: node.name) }) {
            add(GraphTags.names, own.flatMap { [$0.name.utf8.count] + $0.name.utf8.map(Int.init) })
        }
        let schemes = own.compactMap(\.scheme)
        if !schemes.allSatisfy(\.isUsual) { add(GraphTags.schemes, schemes.flatMap(\.attribute)) }
        if !attributes.isEmpty {
            layer.attributes = [
                ContainerField(
                    tag: GraphTags.attributes, isCritical: true,
                    bytes: AttributeCoding.bytes(attributes))
            ]
        }
        return layer
    }
}

/// A constant as sub-layers: mask, scale, zero point, and then the elements.
private struct EncodedConstant {
    let name: String
    let isBias: Bool
    var subLayers: [ContainerNetwork.SubLayer] = []
    /// Of the mask, where it is stored.
    var blocks: MaskBlocks?
    var scheme: QuantizationScheme?

    func usualName(in layer: String) -> String { layer + (isBias ? ".bias" : ".weight") }

    init(_ constant: Graph.Constant, isBias: Bool) throws(GraphError) {
        (name, self.isBias) = (constant.name, isBias)
        let kind: ContainerNetwork.Kind = isBias ? .bias : .weight
        switch constant.value {
        case .floats(let tensor):
            let values = tensor.elements
            try add(
                values, { $0.bitPattern }, { $0 == 0 }, kind, .f32, constant, mayHide: true)
        case .codes(let tensor):
            let parameters = tensor.parameters
            let scales = try EncodedConstant.scales(of: tensor, name: constant.name)
            let codes = parameters.scheme.codes
            guard tensor.codes.allSatisfy({ codes.contains(Int32($0)) }) else {
                throw GraphError("constant '\(constant.name)': codes outside \(codes)")
            }
            var before = [scales]
            if !parameters.scheme.isSymmetric {
                before.append(
                    ContainerNetwork.SubLayer(
                        kind: .zeroPoint, type: .i32, dims: scales.dims,
                        data: EncodedConstant.bytes(parameters.zeroPoints) { $0 }))
            }
            scheme = parameters.scheme
            try add(
                tensor.codes, { $0 }, { $0 == 0 }, kind, .i8, constant, before: before,
                mayHide: parameters.zeroPoints.allSatisfy { $0 == 0 })
        case .sums(let values):
            try add(values, { $0 }, { $0 == 0 }, kind, .i32, constant, mayHide: false)
        }
    }

    private mutating func add<Element>(
        _ elements: [Element], _ bits: (Element) -> some FixedWidthInteger,
        _ isZero: (Element) -> Bool,
        _ kind: ContainerNetwork.Kind, _ type: ContainerNetwork.ElementType,
        _ constant: Graph.Constant, before: [ContainerNetwork.SubLayer] = [], mayHide: Bool
    ) throws(GraphError) {
        let dims = constant.shape.map { UInt32($0) }
        var stored = elements
        var coding = ContainerNetwork.Coding.all
        if let mask = constant.mask {
            guard mask.shape == constant.shape,
                elements.indices.allSatisfy({ mask.isLive($0) || isZero(elements[$0]) || !mayHide })
            else {
                throw GraphError("constant '\(constant.name)': its mask hides what is not 0")
            }
            let blocks = MaskBlocks(mask)
            if mayHide,
                blocks.bitmapBytes + mask.liveCount * type.size < elements.count * type.size
            {
                let bitmap = blocks.bitmap(mask)
                subLayers.append(
                    ContainerNetwork.SubLayer(
                        kind: .mask, type: .u8, dims: [UInt32(bitmap.count)], data: bitmap))
                stored = (blocks.live(bitmap) ?? []).flatMap { blocks.entries(of: $0) }
                    .map { elements[$0] }
                coding = .live
                self.blocks = blocks
            }
        }
        subLayers += before
        subLayers.append(
            ContainerNetwork.SubLayer(
                kind: kind, type: type, coding: coding, dims: dims,
                data: EncodedConstant.bytes(stored, bits)))
    }

    private static func scales(
        of tensor: QuantizedTensor, name: String
    ) throws(GraphError) -> ContainerNetwork.SubLayer {
        let scales = tensor.parameters.scales
        var dims: [UInt32] = []
        switch tensor.parameters.scheme.granularity {
        case .tensor:
            guard scales.count == 1 else {
                throw GraphError("constant '\(name)': \(scales.count) scales")
            }
        case .channel(let axis):
            guard axis >= 0 else { throw GraphError("constant '\(name)': axis \(axis)") }
            dims = [UInt32(scales.count)]
        }
        return ContainerNetwork.SubLayer(
            kind: .scale, type: .f32, dims: dims, data: bytes(scales, \.bitPattern))
    }

    private static func bytes<Element>(
        _ values: [Element], _ bits: (Element) -> some FixedWidthInteger
    ) -> [UInt8] {
        var writer = ByteWriter()
        for value in values { writer.add(bits(value)) }
        return writer.bytes
    }
}

extension QuantizationScheme {
    /// What a file does not say of codes: 8 bits, symmetric, one scale or one an output.
    fileprivate var isUsual: Bool {
        bits == 8 && isSymmetric && (granularity == .tensor || granularity == .channel(axis: 0))
    }

    fileprivate var attribute: [Int] {
        if case .channel(let axis) = granularity { return [bits, isSymmetric ? 1 : 0, axis] }
        return [bits, isSymmetric ? 1 : 0, -1]
    }
}
