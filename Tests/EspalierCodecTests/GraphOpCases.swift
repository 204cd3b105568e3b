import EspalierGraph
import EspalierTensors
import EspalierTesting

extension GraphSamples {
    /// An op whose operands are all the input.
    private static func repeated(_ op: Op, _ example: Shape, count: Int) -> Graph {
        Graph(
            input: Graph.Input(name: "x", example: example), constants: [],
            nodes: [
                Graph.Node(
                    name: "op", op: op, operands: [Graph.Operand](repeating: .input, count: count))
            ], output: .node(0))
    }

    /// The op families, each kind with its attributes.
    static let opCases: [GraphCase] =
        unaryCases + binaryCases + reduceCases + resampleCases + otherCases

    private static let unaryCases: [GraphCase] = Op.Unary.Function.all.map { function in
        GraphCase(function.name) { single(.unary(Op.Unary(function)), [3, 5]) }
    }

    private static let binaryCases: [GraphCase] = Op.Binary.Function.all.map { function in
        GraphCase(function.name) {
            single(.binary(Op.Binary(function)), [3, 5], [constant("b", [5])])
        }
    }

    private static let reduceCases: [GraphCase] = Op.Reduce.Kind.allCases.map { kind in
        GraphCase(kind.name) {
            single(
                .reduce(Op.Reduce(kind, axes: [-1, 1], keepsAxes: true, correction: 1)), [3, 5, 2])
        }
    }

    private static let resampleCases: [GraphCase] = Op.Resample.Kind.allCases.map { kind in
        GraphCase("resample \(kind)") {
            single(.resample(Op.Resample(kind, to: Size2D(3, 7))), [4, 5, 2])
        }
    }

    private static let otherCases: [GraphCase] = [
        GraphCase("a clamp with one bound") {
            single(.unary(Op.Unary(.clamp(-.infinity, 6))), [3])
        },
        GraphCase("select") {
            single(.select(Op.Select()), [3], [constant("a", [3]), constant("b", [1])])
        },
        GraphCase("fill with minus infinity") {
            single(.fill(Op.Fill(value: -.infinity)), [3, 3], [constant("mask", [3, 3])])
        },
        GraphCase("cumulative sum") {
            single(.cumulativeSum(Op.CumulativeSum(axis: -1)), [4])
        },
        GraphCase("permute") { single(.permute(Op.Permute([0, 2, 1])), [3, 5]) },
        GraphCase("slice") {
            single(
                .slice(
                    Op.Slice([
                        .init(axis: 1, start: 1, step: 2), .init(axis: -1, end: -1, step: -1),
                    ])), [4, 5])
        },
        GraphCase("concatenate") {
            repeated(.concatenate(Op.Concatenate(axis: 1)), [2, 3], count: 3)
        },
        GraphCase("pad") {
            single(.pad(Op.Pad(.constant(0.5), before: [0, -1], after: [0, 4])), [3])
        },
        GraphCase("reflected padding") {
            single(.pad(Op.Pad(.reflect, before: [0, 2], after: [0, 1])), [3])
        },
        GraphCase("replicated padding") {
            single(.pad(Op.Pad(.replicate, before: [0, 2], after: [0, 9])), [3])
        },
        GraphCase("expand") { single(.expand(Op.Expand(to: [-1, 4, 3])), [1, 3]) },
        GraphCase("triangle") {
            single(.triangle(Op.Triangle(diagonal: -1, isLower: true)), [3, 4])
        },
        GraphCase("matmul") {
            single(
                .matMul(Op.MatMul(transposesB: true)), [3, 4], [constant("b", [5, 4])])
        },
        GraphCase("matmul with itself") {
            repeated(.matMul(Op.MatMul(transposesA: true)), [3, 4], count: 2)
        },
        GraphCase("layer norm") {
            single(
                .layerNorm(Op.LayerNorm(epsilon: 1e-5)), [3, 4],
                [constant("weight", [4]), constant("bias", [4])])
        },
        GraphCase("root mean square norm") {
            single(
                .layerNorm(Op.LayerNorm(axisCount: 2, epsilon: 1e-6, isCentred: false)),
                [3, 4])
        },
    ]
}
