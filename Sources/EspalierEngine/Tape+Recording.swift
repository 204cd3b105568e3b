package import EspalierGraph
package import EspalierTensors

extension Graph {
    /// Records a forward pass in evaluation mode as a graph.
    ///
    /// It is recorded twice, for batches of different size. What differs must be the batch alone: an op that holds its
    /// size otherwise than as an extent to be filled in cannot be exported.
    ///
    /// - Parameters:
    ///   - names: Of the parameters that the forward reads.
    /// - Throws: `GraphError` with the op that depends on the batch, or is not for inference.
    package static func recorded(
        example: Shape, names: [ObjectIdentifier: String], _ forward: (Value) -> Value
    ) throws(GraphError) -> Graph {
        var graphs: [Graph] = []
        var recordedShapes: [[Shape]] = []
        let batches = [2, 3]
        for batch in batches {
            let tape = Tape(mode: .evaluation)
            // Values of one batch that the other does not have: a grid that follows them would show.
            let shape = Shape([batch] + example)
            let values = (0..<shape.elementCount).map { Float($0 % 7 + batch) / 8 }
            let output = forward(tape.input(Tensor(values, shape: shape)))
            let (graph, shapes) = try tape.graph(of: output, example: example, names: names)
            graphs.append(graph)
            recordedShapes.append(shapes)
        }
        let graph = try graphs[0].withSymbolicBatch(against: graphs[1], batches: batches)
        for (batch, shapes) in zip(batches, recordedShapes) {
            let inferred = try graph.shapes(batch: batch)
            if let index = shapes.indices.first(where: { shapes[$0] != inferred[$0] }) {
                throw GraphError(
                    "node '\(graph.nodes[index].name)': shape \(shapes[index]) for a batch of \(batch) "
                        + "does not follow from the batch")
            }
        }
        return graph
    }

    private func withSymbolicBatch(
        against other: Graph, batches: [Int]
    ) throws(GraphError) -> Graph {
        guard nodes.count == other.nodes.count, output == other.output else {
            throw GraphError("another batch runs through other ops; nothing may depend on its size")
        }
        var result = self
        for (index, (a, b)) in zip(nodes, other.nodes).enumerated() {
            guard a.op.entry.number == b.op.entry.number, a.operands == b.operands else {
                throw GraphError("node '\(a.name)': another batch runs through other ops")
            }
            if case .reshape(let first) = a.op, case .reshape(let second) = b.op,
                first.extents.count == second.extents.count
            {
                let open = first.extents.indices.filter { first.extents[$0] != second.extents[$0] }
                if open.count == 1, !first.extents.contains(-1) {
                    var extents = first.extents
                    extents[open[0]] = -1
                    result.nodes[index].op = .reshape(Op.Reshape(to: extents))
                    continue
                }
            }
            guard a.op.attributes == b.op.attributes else {
                throw GraphError(
                    "node '\(a.name)' (\(a.op.entry.name)) depends on the size of the batch")
            }
        }
        return result
    }
}

extension Tape {
    /// The value of each op, in order, where this tape keeps them; the same order as the nodes of a recorded graph.
    package var keptValues: [Tensor] { kept }

    /// What was recorded up to a value, and the shape of each node.
    func graph(
        of output: Value, example: Shape, names: [ObjectIdentifier: String]
    ) throws(GraphError) -> (Graph, [Shape]) {
        var operands: [Graph.Operand] = []
        var graph = Graph(
            input: Graph.Input(name: "input", example: example), constants: [],
            nodes: [], output: .input)
        var shapes: [Shape] = []
        var hasInput = false
        var counts: [String: Int] = [:]
        for record in records {
            guard let op = record.op else {
                if let leaf = record.leaf {
                    let name = names[ObjectIdentifier(leaf)] ?? "constant\(graph.constants.count)"
                    graph.constants.append(Graph.Constant(name: name, value: .floats(leaf.value)))
                    operands.append(.constant(graph.constants.count - 1))
                } else {
                    guard !hasInput else {
                        throw GraphError("the forward feeds in a tensor that is no parameter")
                    }
                    hasInput = true
                    operands.append(.input)
                }
                continue
            }
            if op.isFused {
                throw GraphError("an op with the activation behind it is for training alone")
            }
            let own = record.inputs.map { operands[$0] }
            let kind = op.entry.name
            counts[kind, default: 0] += 1
            let name = graph.layerName(own) ?? "\(kind)\(counts[kind] ?? 0)"
            var node = Graph.Node(name: name, op: op, operands: own)
            node.source = graph.nodes.count
            graph.nodes.append(node)
            operands.append(.node(graph.nodes.count - 1))
            shapes.append(record.shape)
        }
        graph.output = operands[output.node]
        return (graph, shapes)
    }
}

extension Graph {
    // A layer is called as its weight is, without what stands behind the last dot.
    fileprivate func layerName(_ operands: [Operand]) -> String? {
        guard operands.count > 1, var weight = operands.dropFirst().first else { return nil }
        while case .node(let index) = weight {
            guard let first = nodes[index].operands.first, nodes[index].operands.count == 1 else {
                return nil
            }
            weight = first
        }
        guard case .constant(let index) = weight else { return nil }
        let name = constants[index].name
        return name.lastIndex(of: ".").map { String(name[..<$0]) }
    }
}

extension Op {
    // Whether the activation behind it is part of it, as it is only while training.
    fileprivate var isFused: Bool {
        switch self {
        case .conv2D(let op): op.activation != .none
        case .batchNorm(let op): op.relu
        default: false
        }
    }
}
