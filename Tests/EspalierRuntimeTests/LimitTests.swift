import EspalierGraph
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

private typealias Samples = GraphSamples

/// A graph that must be refused, and what the reason says.
private struct Refusal: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let reason: String
    let graph: Graph

    init(_ name: String, _ reason: String, _ graph: Graph) {
        (testDescription, self.reason, self.graph) = (name, reason, graph)
    }

    static func changed(_ graph: Graph, _ change: (inout Graph) -> Void) -> Graph {
        var graph = graph
        change(&graph)
        return graph
    }

    static func pool(_ kernel: Size2D, padding: Size2D = Size2D(0), image: Shape) -> Graph {
        Samples.single(
            .maxPool2D(
                Op.MaxPool2D(window: Window2D(kernel: kernel, padding: Padding2D(padding)))), image)
    }

    static func reshape(_ extents: [Int], _ example: Shape) -> Graph {
        Samples.single(.reshape(Op.Reshape(to: extents)), example)
    }

    static let bad = QuantizationParameters(
        scheme: .activations(bits: 4), scales: [1], zeroPoints: [16])
    static let relu = Samples.single(.relu(Op.ReLU()), [4])
    static func linear(_ weight: Shape, _ example: Shape) -> Graph {
        Samples.single(.linear(Op.Linear()), example, [Samples.constant("w", weight)])
    }

    static let all: [Refusal] = [
        Refusal("an input without elements", "[3, 0]", Samples.single(.relu(Op.ReLU()), [3, 0])),
        Refusal("no outputs", "no elements", linear([0, 4], [4])),
        Refusal("no inputs of a layer", "no elements", linear([2, 0], [0])),
        Refusal(
            "an image without rows", "larger than the image",
            Samples.single(
                .conv2D(Op.Conv2D(padding: Padding2D(Size2D(1)))), [0, 4, 2],
                [Samples.constant("w", [2, 3, 3, 2])])),
        Refusal(
            "an output that is a constant", "output",
            changed(linear([2, 4], [4])) { $0.output = .constant(0) }),
        Refusal(
            "an output that is not there", "output", changed(relu) { $0.output = .node(1) }),
        Refusal(
            "a node that reads itself", "operand",
            changed(relu) { $0.nodes[0].operands = [.node(0)] }),
        Refusal(
            "a relu of a constant", "constant",
            changed(linear([2, 4], [4])) {
                $0.nodes.append(
                    Graph.Node(name: "r", op: .relu(Op.ReLU()), operands: [.constant(0)]))
            }),
        Refusal(
            "a weight that is no constant", "batch",
            changed(linear([1, 1], [1])) { $0.nodes[0].operands = [.input, .input] }),
        Refusal("a fixed batch", "cannot become", reshape([1, 6], [2, 3])),
        Refusal("a batch that takes in an axis", "batch", reshape([1, -1], [2, 3])),
        Refusal("a layer over the batch itself", "does not fit", linear([1, 1], [])),
        Refusal(
            "softmax of a scalar", "softmax", Samples.single(.softmax(Op.Softmax()), [])),
        Refusal(
            "a zero point of the input that is no code", "zero point",
            changed(relu) { $0.input.quantization = bad }),
        Refusal(
            "a zero point of a result that is no code", "zero point",
            changed(relu) { $0.nodes[0].quantization = bad }),
        Refusal(
            "a zero point of an op that is no code", "zero point",
            Samples.single(.fakeQuantize(Op.FakeQuantize(parameters: bad)), [4])),
        Refusal(
            "a window of 2^33 taps", "too large",
            pool(Size2D(1 << 20, 1 << 13), padding: Size2D(1 << 19, 1 << 12), image: [1, 1, 1])),
        Refusal(
            "padding beyond 32 bits", "too large",
            pool(Size2D(1 << 40, 1), padding: Size2D(1 << 39, 0), image: [1, 1, 1])),
        Refusal(
            "a pool that takes for ever", "operations",
            pool(Size2D(4000), padding: Size2D(3999), image: [4000, 4000, 1])),
        Refusal(
            "a convolution of 272 taps", "taps",
            Samples.single(
                .conv2D(Op.Conv2D()), [17, 17, 1], [Samples.constant("w", [1, 17, 16, 1])])),
        Refusal(
            "images of 2 GiB together", "'conv2d'",
            changed(
                Samples.single(
                    .conv2D(Op.Conv2D(padding: Padding2D(Size2D(4094)))), [4, 4, 1],
                    [Samples.constant("w", [4, 1, 1, 1])])
            ) {
                $0.nodes.append(
                    Graph.Node(name: "s", op: .scale(Op.Scale(factor: 2)), operands: [.node(0)]))
                $0.output = .node(1)
            }),
    ]
}

/// Graphs at the edge of what can be run.
@Suite struct LimitTests {
    @Test("What cannot be run is refused with its reason", arguments: Refusal.all)
    private func refused(_ refusal: Refusal) {
        let error = #expect(throws: GraphError.self) { try Model(refusal.graph) }
        let text = error?.description ?? ""
        #expect(text.contains(refusal.reason), "\(text)")
    }

    @Test("Limits count nodes, bytes and operations, and name the node")
    func limits() throws {
        func problem(_ graph: Graph, _ limits: Limits) -> String? {
            do throws(GraphError) {
                _ = try Model(graph, limits: limits)
                return nil
            } catch { return error.description }
        }
        let graph = GraphSamples.tiny
        #expect(problem(graph, Limits()) == nil)
        #expect(problem(graph, Limits(nodes: 3))?.contains("nodes") == true)
        #expect(problem(graph, Limits(work: 1000))?.contains("'conv2'") == true)
        #expect(problem(graph, Limits(bytes: 800))?.contains("bytes") == true)
        // A result that fits, but not with its operand.
        let relu = GraphSamples.single(
            .scale(Op.Scale(factor: 2)), [100], [])
        #expect(problem(relu, Limits(bytes: 400))?.contains("'scale'") == true)
        #expect(problem(relu, Limits(bytes: 1000)) == nil)
    }

    @Test("A graph without nodes gives its input, on its grid")
    func noNodes() throws {
        var graph = Graph(
            input: Graph.Input(name: "x", example: []), constants: [], nodes: [], output: .input)
        #expect(try Model(graph).run([1, -2, 3]) == [1, -2, 3])
        graph.input.quantization = GraphSamples.grid(0.5, zeroPoint: 2)
        #expect(try Model(graph).run([1.1, -2, 300]) == [1, -1, 126.5])
        #expect(try Model(graph).run([]).isEmpty)
    }

    @Test("Nodes that nobody reads do no harm; constants may be shared")
    func unread() throws {
        let weight = Graph.Constant(
            name: "w", value: .floats(Tensor([0, 1, 1, 0], shape: [2, 2])))
        func linear(_ operand: Graph.Operand) -> Graph.Node {
            Graph.Node(name: "l", op: .linear(Op.Linear()), operands: [operand, .constant(0)])
        }
        let graph = Graph(
            input: Graph.Input(name: "x", example: [2]), constants: [weight],
            nodes: [linear(.input), linear(.node(0)), linear(.input)], output: .node(0))
        for batch in [1, 3] {
            let x = (0..<2 * batch).map { Float($0) }
            let swapped = x.indices.map { x[$0 ^ 1] }
            #expect(try Model(graph).run(x) == swapped)
        }
    }

    @Test("A window of 225 taps, in floats and in integers", arguments: [false, true])
    func manyTaps(isInteger: Bool) throws {
        // The pixel under the middle of the window alone.
        var codes = [Int8](repeating: 0, count: 225)
        codes[112] = 64
        let scheme = QuantizationScheme.weights(bits: 8)
        let tensor = QuantizedTensor(
            shape: [1, 15, 15, 1], codes: codes,
            parameters: QuantizationParameters(scheme: scheme, scales: [1.0 / 64], zeroPoints: [0]))
        let value: Graph.Constant.Value = isInteger ? .codes(tensor) : .floats(tensor.dequantized)
        var graph = GraphSamples.single(
            .conv2D(Op.Conv2D(padding: .same(kernel: Size2D(15)))), [5, 6, 1],
            [Graph.Constant(name: "w", value: value)])
        graph.input.quantization = GraphSamples.grid(1, zeroPoint: 100)
        let x = (0..<60).map { Float($0 - 30) }
        let model = try Model(graph)
        let kernel = try #require(model.plan(for: 1).steps.last?.kernel)
        #expect(kernel.hasPrefix(isInteger ? "INT8 dense" : "float dense"))
        for isa in ISA.available {
            #expect(model.run(Tensor(x, shape: [2, 5, 6, 1]), isa: isa).elements == x)
        }
    }

    @Test("Linear layers over values of rank 5")
    func rankFive() throws {
        let graph = GraphSamples.single(
            .linear(Op.Linear()), [2, 1, 3, 1, 2],
            [Graph.Constant(name: "w", value: .floats(Tensor([1, 10], shape: [1, 2])))])
        let x = (0..<24).map { Float($0) }
        let want = (0..<12).map { Float(22 * $0 + 10) }
        #expect(try Model(graph).run(x) == want)
    }
}
