import EspalierGraph
import EspalierTensors

/// A graph as the headers of a file describe it: checked as a whole, before anything is made from its data.
struct GraphOutline {
    /// A constant and where its parts stand.
    struct Constant {
        let name: String
        let shape: Shape
        let content: ConstantContent
        /// The layer's id, and indices of its sub-layers.
        let layer: UInt32
        let elements: Int
        var mask: Int?
        var scale: Int?
        var zeroPoint: Int?
        let blocks: MaskBlocks?
    }

    /// Without constants.
    private(set) var graph: Graph
    private(set) var constants: [Constant] = []
    let description: [UInt8]?
    let producer: String?
    private var nodes: [UInt32: Int] = [:]
    private var places: [Place: Int] = [:]

    private struct Place: Hashable {
        let layer: UInt32
        let position: Int
    }

    /// Reads the headers.
    ///
    /// - Throws: `ContainerError` where they describe no graph, or one for a newer program.
    init(_ reader: ContainerReader<some ByteSource>) throws(ContainerError) {
        func field(_ tag: UInt16) -> [UInt8]? { reader.fields.first { $0.tag == tag }?.bytes }
        func fail(_ problem: String) -> ContainerError { ContainerError(.networkHeader, problem) }
        guard let opset: UInt16 = number(field(GraphTags.opset)) else {
            throw fail("it holds no graph: there is no opset")
        }
        guard opset >= 1, opset <= Opset.version else {
            throw fail(
                "opset \(opset); this program knows \(Opset.version): the file needs a newer one")
        }
        guard let input = field(GraphTags.input).flatMap(ContainerNetwork.input) else {
            throw fail("its input is missing or impossible")
        }
        guard let output: UInt32 = number(field(GraphTags.output)) else {
            throw fail("its output is missing")
        }
        let producer = field(GraphTags.producer)
        self.producer = producer.flatMap { String(validating: $0, as: UTF8.self) }
        guard producer == nil || self.producer != nil else { throw fail("its producer is no text") }
        description = field(GraphTags.description)
        graph = Graph(input: input, constants: [], nodes: [], output: .input)
        for layer in reader.layers {
            do throws(OpsetError) {
                try add(layer)
            } catch {
                throw ContainerError(
                    .layerHeaders,
                    "layer \(layer.header.id) '\(layer.header.name)': \(error.description)")
            }
        }
        if output != 0 {
            guard let node = nodes[output] else {
                throw fail("its output is layer \(output), which is not there")
            }
            graph.output = .node(node)
        }
        do throws(GraphError) {
            try graph.checkForFile(constants: constants.map { ($0.shape, $0.content) })
        } catch {
            throw ContainerError(.layerHeaders, error.description)
        }
    }

    private mutating func add(_ layer: ContainerLayer) throws(OpsetError) {
        let header = layer.header
        if let unknown = header.attributes.first(where: {
            $0.isCritical && $0.tag != GraphTags.attributes
        }) {
            throw OpsetError("its field \(unknown.tag) is critical and not known here")
        }
        let raw = header.attributes.first { $0.tag == GraphTags.attributes }?.bytes ?? []
        guard let all = AttributeCoding.attributes(raw) else {
            throw OpsetError("its attributes are damaged")
        }
        let isOwn = { (attribute: Opset.Attribute) in attribute.tag < GraphTags.activation }
        var left = all.filter { !isOwn($0) }
        let op = try Op(number: header.type, attributes: all.filter(isOwn))
        let grid = try GraphTags.takeGrid(&left)
        var lists = AttributeLists(left)
        let activation = try lists.take(GraphTags.activation)
        guard activation == nil || activation == [1] else {
            throw OpsetError("activation \(activation ?? []) needs a newer program")
        }
        var parts = ConstantParts(
            subLayers: header.subLayers, layer: header.id, layerName: header.name,
            blocks: try lists.take(GraphTags.blocks) ?? [],
            names: try lists.take(GraphTags.names),
            schemes: try lists.take(GraphTags.schemes))
        let shared = try lists.take(GraphTags.shared) ?? []
        let positions = try lists.take(GraphTags.positions)
        try lists.finish()
        let own = header.subLayers.count { $0.kind == .weight || $0.kind == .bias }
        // Counts are those of headers that are there, so that nothing below is larger than the file.
        guard shared.count % 3 == 0, positions.map({ $0.count == own + shared.count / 3 }) ?? true
        else { throw OpsetError("its constants do not fit their positions") }
        let count = header.inputs.count + own + shared.count / 3
        guard op.entry.operands.contains(count) else { throw OpsetError("\(count) operands") }
        let fixed = positions ?? Array(header.inputs.count..<count)
        guard zip(fixed, fixed.dropFirst()).allSatisfy({ $0 < $1 }),
            fixed.allSatisfy({ (0..<count).contains($0) })
        else { throw OpsetError("its constants stand at \(fixed)") }
        var tied: [Int: Int] = [:]
        for index in stride(from: 0, to: shared.count, by: 3) {
            // Of this layer too: it may read a constant twice. Those are known once they are read.
            guard tied.updateValue(index, forKey: shared[index]) == nil else {
                throw OpsetError("operand \(shared[index]) is tied twice")
            }
        }
        var node = Graph.Node(
            name: header.name, op: op, operands: [],
            activation: activation == nil ? .none : .relu, quantization: grid)
        var inputs = header.inputs.makeIterator()
        for position in 0..<count {
            if !fixed.contains(position) {
                guard let input = inputs.next(), input.port == 0 else {
                    throw OpsetError("it reads a second result of a layer")
                }
                // That it comes before this one, the reader has checked.
                node.operands.append(nodes[input.layer].map { .node($0) } ?? .input)
            } else if let index = tied.removeValue(forKey: position) {
                guard let layer = UInt32(exactly: shared[index + 1]),
                    let constant = places[Place(layer: layer, position: shared[index + 2])]
                else { throw OpsetError("operand \(position) is tied to no constant") }
                node.operands.append(.constant(constant))
            } else {
                let constant = try parts.next(isBias: op.isBias(position))
                places[Place(layer: header.id, position: position)] = constants.count
                node.operands.append(.constant(constants.count))
                constants.append(constant)
            }
        }
        guard tied.isEmpty else { throw OpsetError("an operand is tied that is no constant") }
        try parts.finish()
        nodes[header.id] = graph.nodes.count
        graph.nodes.append(node)
    }
}

private func number<Number: FixedWidthInteger>(_ bytes: [UInt8]?) -> Number? {
    guard let bytes, bytes.count == MemoryLayout<Number>.size else { return nil }
    var reader = ByteReader(bytes[...])
    return reader.number()
}

/// Attributes that are lists of integers, each taken once.
private struct AttributeLists {
    private var left: [Opset.Attribute]

    init(_ attributes: [Opset.Attribute]) { left = attributes }

    mutating func take(_ tag: UInt16) throws(OpsetError) -> [Int]? {
        guard let index = left.firstIndex(where: { $0.tag == tag }) else { return nil }
        guard case .integers(let values) = left.remove(at: index).value, !values.isEmpty,
            values.allSatisfy({ Int32(exactly: $0) != nil })
        else { throw OpsetError("attribute \(tag) is impossible") }
        return values.map { Int($0) }
    }

    func finish() throws(OpsetError) {
        if let unknown = left.first {
            throw OpsetError("attribute \(unknown.tag) is not known; it needs a newer program")
        }
    }
}
