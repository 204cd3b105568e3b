package import EspalierTensors

/// A recorded forward pass as data: what a file holds and the runtime plans.
///
/// The first axis of the input is the batch; every shape follows from it by the ops' own rules. A node computes its op,
/// then its activation, and then puts the values on its grid, where it has them.
package struct Graph: Sendable {
    /// What is fed in.
    package struct Input: Sendable {
        package var name: String
        /// The shape of one example; a batch has one axis more in front.
        package var example: Shape
        /// The grid that its values are put on first.
        package var quantization: QuantizationParameters?
        /// The recorded node whose value this is, where it was recorded in this process.
        package var source: Int?

        package init(name: String, example: Shape, quantization: QuantizationParameters? = nil) {
            self.name = name
            self.example = example
            self.quantization = quantization
        }
    }

    /// Where an operand comes from.
    package enum Operand: Sendable, Hashable {
        case input
        case node(Int)
        case constant(Int)
    }

    /// What a node does to its result before it is put on a grid.
    package enum Activation: UInt8, Sendable, Hashable {
        case none = 0
        case relu = 1
    }

    /// An op and its operands.
    package struct Node: Sendable {
        package var name: String
        package var op: Op
        package var operands: [Operand]
        package var activation = Activation.none
        package var quantization: QuantizationParameters?
        /// The recorded node whose value this is, where it was recorded in this process.
        package var source: Int?

        package init(
            name: String, op: Op, operands: [Operand], activation: Activation = .none,
            quantization: QuantizationParameters? = nil
        ) {
            self.name = name
            self.op = op
            self.operands = operands
            self.activation = activation
            self.quantization = quantization
        }
    }

    /// A tensor that does not depend on the input.
    package struct Constant: Sendable {
        package enum Value: Sendable {
            case floats(Tensor)
            case codes(QuantizedTensor)
            /// A bias [outputs] in units of the input's scale times the weight's scale of each output.
            case sums([Int32])
        }

        package var name: String
        package var value: Value
        /// Which entries live; the others are 0.
        package var mask: Mask?

        package init(name: String, value: Value, mask: Mask? = nil) {
            self.name = name
            self.value = value
            self.mask = mask
        }

        package var shape: Shape {
            switch value {
            case .floats(let tensor): tensor.shape
            case .codes(let tensor): tensor.shape
            case .sums(let values): [values.count]
            }
        }
    }

    package var input: Input
    package var constants: [Constant]
    /// In an order in which operands come first.
    package var nodes: [Node]
    /// The result.
    package var output: Operand

    package init(input: Input, constants: [Constant], nodes: [Node], output: Operand) {
        self.input = input
        self.constants = constants
        self.nodes = nodes
        self.output = output
    }
}

/// A graph that cannot be made, or makes no sense, and where.
package struct GraphError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

extension Graph {
    /// The grid that an operand's values lie on, or nil: its own, or what it lets through unchanged.
    package func grid(of operand: Operand) -> QuantizationParameters? {
        var operand = operand
        // Not recursive: a file may hold a chain that is longer than the stack is deep.
        while true {
            switch operand {
            case .input: return input.quantization
            case .constant: return nil
            case .node(let index):
                let node = nodes[index]
                if let own = node.quantization { return own }
                guard node.activation == .none else { return nil }
                switch node.op {
                case .maxPool2D, .reshape: operand = node.operands[0]
                default: return nil
                }
            }
        }
    }

    /// The nodes that read each node's result; the graph's output counts as one more reader.
    package var readers: [Int] {
        var counts = [Int](repeating: 0, count: nodes.count)
        for operand in nodes.flatMap(\.operands) + [output] {
            if case .node(let index) = operand { counts[index] += 1 }
        }
        return counts
    }

    /// The most elements that one example may have at any point.
    package static let maximumElements = 1 << 28

    /// The shape of each node's result for a batch.
    ///
    /// - Throws: `GraphError` with the node's name where operands do not fit, are missing or come later, where sizes are
    ///   beyond all use, or where the batch does not stay in front.
    package func shapes(batch: Int) throws(GraphError) -> [Shape] {
        try shapes(batch: batch, constants: constants.map(\.shape))
    }

    /// The same from the shapes of the constants, which need not be there yet.
    package func shapes(batch: Int, constants: [Shape]) throws(GraphError) -> [Shape] {
        var shapes: [Shape] = []
        // What is made of constants alone has no batch.
        var hasBatch: [Bool] = []
        guard input.example.rank < Shape.maximumRank,
            input.example.hasSize(upTo: Graph.maximumElements)
        else { throw GraphError("input '\(input.name)': \(input.example) is too large") }
        let inputShape = Shape([batch] + input.example)
        for (index, node) in nodes.enumerated() {
            func fail(_ problem: String) -> GraphError {
                GraphError("node '\(node.name)' (\(node.op.entry.name)): \(problem)")
            }
            guard node.op.entry.operands.contains(node.operands.count) else {
                throw fail("\(node.operands.count) operands")
            }
            var operands: [Shape] = []
            for operand in node.operands {
                switch operand {
                case .input: operands.append(inputShape)
                case .node(let other) where (0..<index).contains(other):
                    operands.append(shapes[other])
                case .constant(let other) where constants.indices.contains(other):
                    operands.append(constants[other])
                default: throw fail("an operand that does not come before it")
                }
            }
            let shape: Shape
            do throws(ShapeError) {
                shape = try node.op.operation.outputShape(operands)
            } catch {
                throw fail(error.description)
            }
            hasBatch.append(
                node.operands.contains {
                    switch $0 {
                    case .input: true
                    case .node(let other): hasBatch[other]
                    case .constant: false
                    }
                })
            guard shape.first == batch || !hasBatch[index] else {
                throw fail("its result \(shape) loses the batch")
            }
            guard shape.hasSize(upTo: Graph.maximumElements * max(batch, 1)) else {
                throw fail("its result \(shape) is too large")
            }
            shapes.append(shape)
        }
        return shapes
    }

    /// The shape of one example of the result.
    ///
    /// - Throws: `GraphError` where the graph makes no sense.
    package func outputExample() throws(GraphError) -> Shape {
        switch output {
        case .input: return input.example
        case .node(let index) where nodes.indices.contains(index):
            return Shape(try shapes(batch: 1)[index].dropFirst())
        default: throw GraphError("the output is no node")
        }
    }
}
