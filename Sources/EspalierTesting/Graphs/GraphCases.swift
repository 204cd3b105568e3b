package import EspalierGraph
import EspalierNN
import EspalierTensors

/// A graph with the name of what it shows.
package struct GraphCase: Sendable {
    package let testDescription: String
    package let make: @Sendable () throws -> Graph

    package init(_ name: String, _ make: @escaping @Sendable () throws -> Graph) {
        testDescription = name
        self.make = make
    }
}

extension GraphSamples {
    private static func window(_ roundsUp: Bool) -> Window2D {
        Window2D(
            kernel: Size2D(3, 2), stride: Size2D(2, 1),
            padding: Padding2D(top: 1, left: 0, bottom: 1, right: 1), roundsUp: roundsUp)
    }

    private static func masked(_ shape: Shape, _ outputs: Int, _ inputs: Int) -> Graph {
        let mask = mask(shape, outputs: outputs, inputs: inputs, every: 3)
        return single(
            .linear(Op.Linear()), [shape[1]], [constant("linear.weight", shape, mask: mask)])
    }

    /// x + f(x), with the operands of the sum in this order.
    private static func residual(_ operands: [Graph.Operand]) -> Graph {
        Graph(
            input: Graph.Input(name: "x", example: [6, 6, 4]),
            constants: [constant("conv.weight", [4, 3, 3, 4])],
            nodes: [
                Graph.Node(
                    name: "conv",
                    op: .conv2D(Op.Conv2D(padding: .same(kernel: Size2D(3)))),
                    operands: [.input, .constant(0)], activation: .relu),
                Graph.Node(
                    name: "sum", op: .add(Op.Add()), operands: operands, activation: .relu,
                    quantization: grid(0.125, zeroPoint: 7)),
            ], output: .node(1))
    }

    /// The same constants in several places, numbered against their order.
    private static func tied() -> Graph {
        Graph(
            input: Graph.Input(name: "x", example: [8]),
            constants: [
                constant("b", [8], seed: 1), constant("shared", [8, 8], seed: 2),
                constant("other", [8, 8], seed: 5),
            ],
            nodes: [
                Graph.Node(
                    name: "a", op: .linear(Op.Linear()),
                    operands: [.input, .constant(1), .constant(0)]),
                Graph.Node(
                    name: "b", op: .linear(Op.Linear()),
                    operands: [.node(0), .constant(2), .constant(0)]),
                Graph.Node(
                    name: "c", op: .linear(Op.Linear()), operands: [.node(1), .constant(1)]),
                Graph.Node(name: "d", op: .add(Op.Add()), operands: [.constant(0), .node(2)]),
            ], output: .node(3))
    }

    package static let cases: [GraphCase] = [
        GraphCase("mlp without hidden layers") {
            try recorded(.mlp(hidden: [], dropout: 0), input: [7])
        },
        GraphCase("mlp") { try recorded(.mlp(hidden: [6, 5], dropout: 0.1), input: [3, 4]) },
        GraphCase("mlp, pruned in 4x4") {
            try recorded(
                .mlp(hidden: [32], dropout: 0), input: [16],
                pruned: [
                    "hidden1.weight": mask([32, 16], outputs: 4, inputs: 4, every: 4)
                ])
        },
        GraphCase("convnet") {
            try recorded(.convnet(channels: [3], hidden: 0, dropout: 0), input: [6, 6, 1])
        },
        GraphCase("convnet, three stages") {
            try recorded(
                .convnet(channels: [3, 4, 5], hidden: 6, dropout: 0.2), input: [9, 8, 2])
        },
        GraphCase("convnet, pruned in 1x4") {
            try recorded(
                .convnet(channels: [4, 8], hidden: 16, dropout: 0), input: [8, 8, 4],
                pruned: ["conv2.weight": mask([8, 3, 3, 4], outputs: 1, inputs: 4, every: 10)])
        },
        GraphCase("resnet") { try recorded(.resnet(depth: 8), input: [4, 4, 1]) },
        GraphCase("quantized convnet") { tiny },
        GraphCase("quickstart") { quantizedConvnet() },
        GraphCase("blocks of 4x1") { masked([16, 24], 4, 1) },
        GraphCase("blocks of 4x4") { masked([16, 24], 4, 4) },
        GraphCase("single weights") { masked([10, 13], 1, 1) },
        GraphCase("nothing lives") {
            single(
                .linear(Op.Linear()), [9],
                [constant("linear.weight", [9, 9], mask: Mask(shape: [9, 9]) { _ in false })])
        },
        GraphCase("residual") { residual([.input, .node(0)]) },
        GraphCase("residual, the other way") { residual([.node(0), .input]) },
        GraphCase("twice the same operand") { residual([.node(0), .node(0)]) },
        GraphCase("a constant first") {
            Graph(
                input: Graph.Input(name: "x", example: [2, 3]),
                constants: [constant("é", [3])],
                nodes: [
                    Graph.Node(name: "", op: .add(Op.Add()), operands: [.constant(0), .input])
                ], output: .node(0))
        },
        GraphCase("a scalar constant") {
            single(.add(Op.Add()), [3], [constant("add.weight", [])])
        },
        GraphCase("tied constants") { tied() },
        GraphCase("average pool") {
            single(
                .averagePool2D(Op.AveragePool2D(window: window(true), countsPadding: false)),
                [7, 5, 3])
        },
        GraphCase("max pool") {
            single(.maxPool2D(Op.MaxPool2D(window: window(false))), [7, 5, 3])
        },
        GraphCase("softmax") { single(.softmax(Op.Softmax()), [9]) },
        GraphCase("logarithm of softmax") {
            single(.softmax(Op.Softmax(axis: 1, logarithm: true)), [9, 2])
        },
        GraphCase("scale") { single(.scale(Op.Scale(factor: -0x1p-130)), [2, 2, 2, 2, 2, 2, 2]) },
        GraphCase("reshape") { single(.reshape(Op.Reshape(to: [-1, 3, 1, 4])), [12]) },
        GraphCase("a grid alone") {
            single(.fakeQuantize(Op.FakeQuantize(parameters: grid(0.3, zeroPoint: 255))), [4])
        },
        GraphCase("a grid of several scales") {
            let parameters = QuantizationParameters(
                scheme: QuantizationScheme(
                    bits: 4, isSigned: true, isSymmetric: false, granularity: .channel(axis: 1)),
                scales: [1, 2, 3], zeroPoints: [-8, 0, 7])
            return single(.fakeQuantize(Op.FakeQuantize(parameters: parameters)), [3, 2])
        },
        GraphCase("grouped, dilated convolution") {
            single(
                .conv2D(
                    Op.Conv2D(
                        stride: Size2D(2, 1), padding: Padding2D(Size2D(2, 0)),
                        dilation: Size2D(1, 2), groups: 2)),
                [9, 9, 4], [constant("w", [6, 3, 3, 2]), constant("conv2d.bias", [6])])
        },
        GraphCase("codes of 4 bits, one scale") {
            single(
                .linear(Op.Linear()), [5],
                [
                    Graph.Constant(
                        name: "linear.weight",
                        value: .codes(codes([4, 5], seed: 2, bits: 4, axis: nil)))
                ])
        },
        GraphCase("codes with zero points along the inputs") {
            single(
                .linear(Op.Linear()), [5],
                [
                    Graph.Constant(
                        name: "w",
                        value: .codes(codes([4, 5], seed: 2, axis: 1, isSymmetric: false)))
                ])
        },
        GraphCase("no parameters") {
            Graph(
                input: Graph.Input(name: "x", example: [3]), constants: [],
                nodes: [
                    Graph.Node(name: "r", op: .relu(Op.ReLU()), operands: [.input]),
                    Graph.Node(
                        name: "s", op: .softmax(Op.Softmax()), operands: [.node(0)]),
                ], output: .node(0))
        },
        GraphCase("nothing at all") {
            Graph(
                input: Graph.Input(name: "", example: [], quantization: grid(1)), constants: [],
                nodes: [], output: .input)
        },
    ]
}
