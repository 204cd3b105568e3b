import EspalierGraph
import EspalierTensors

/// What a constant of a graph consists of.
enum ConstantContent: Hashable {
    case floats
    case codes(QuantizationScheme)
    case sums

    init(_ value: Graph.Constant.Value) {
        self =
            switch value {
            case .floats: .floats
            case .codes(let tensor): .codes(tensor.parameters.scheme)
            case .sums: .sums
            }
    }
}

extension Op {
    /// Whether an operand is the bias of a layer.
    func isBias(_ position: Int) -> Bool {
        switch self {
        case .linear, .conv2D: position == 2
        default: false
        }
    }
}

extension Graph.Operand {
    fileprivate var isVariable: Bool {
        if case .constant = self { return false }
        return true
    }
}

extension Graph {
    /// Finds what must not stand in a file: for the writer before it writes, for the reader before it reads constants.
    ///
    /// - Throws: `GraphError` with the node.
    func checkForFile(
        constants: [(shape: Shape, content: ConstantContent)]
    ) throws(GraphError) {
        for (shape, _) in constants
        where shape.contains(0) || !shape.hasSize(upTo: Graph.maximumElements) {
            throw GraphError("a constant of \(shape)")
        }
        guard !input.example.contains(0), input.quantization?.isGrid ?? true else {
            throw GraphError("the input '\(input.name)' is empty, or its grid has several scales")
        }
        _ = try shapes(batch: 1, constants: constants.map(\.shape))
        switch output {
        case .input: break
        case .node(let index) where nodes.indices.contains(index): break
        default: throw GraphError("the output is no node")
        }
        // Whether values lie on a grid, carried along: `grid(of:)` would walk back through the graph for each layer.
        var onGrid: [Bool] = []
        func isOnGrid(_ operand: Operand) -> Bool {
            switch operand {
            case .input: input.quantization != nil
            case .node(let index): onGrid[index]
            case .constant: false
            }
        }
        for node in nodes {
            let name = "node '\(node.name)' (\(node.op.entry.name))"
            // So that, by induction, every result has the batch in front.
            guard node.operands.contains(where: \.isVariable) else {
                throw GraphError("\(name): it does not depend on the input")
            }
            guard node.quantization?.isGrid ?? true else {
                throw GraphError("\(name): its grid has several scales")
            }
            for (position, operand) in node.operands.enumerated() {
                guard case .constant(let index) = operand else { continue }
                switch (constants[index].content, node.op.isBias(position)) {
                case (.floats, _), (.codes, false): continue
                case (.sums, true):
                    guard case .constant(let weight) = node.operands[1],
                        case .codes(let scheme) = constants[weight].content, scheme.isPerOutput,
                        isOnGrid(node.operands[0])
                    else {
                        throw GraphError(
                            "\(name): a bias in units of sums, but its factors are no integers "
                                + "of one unit for each output")
                    }
                default: throw GraphError("\(name): operand \(position) is of a wrong type")
                }
            }
            switch node.op {
            case _ where node.quantization != nil: onGrid.append(true)
            case .maxPool2D, .reshape:
                onGrid.append(node.activation == .none && isOnGrid(node.operands[0]))
            default: onGrid.append(false)
            }
        }
    }
}
