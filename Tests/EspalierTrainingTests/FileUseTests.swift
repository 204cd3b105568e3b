import EspalierCodec
import EspalierGraph
import EspalierInterchange
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// What people do with `.espalier` files, also with those that this program did not write.
@Suite struct FileUseTests {
    private func write(_ graph: Graph, _ information: String? = nil, to path: String) throws {
        let bytes = try graph.encoded(description: information.map { Array($0.utf8) })
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    private static func information(_ task: String) -> String {
        """
        {"task": "\(task)", "largestPixel": 255,
         "lineage": {"stage": "s", "seed": 1, "steps": 1}}
        """
    }

    private func message(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch { return "\(error)" }
    }

    @Test("Layers of one name, and biases in several units, come out as safetensors")
    func sameNames() throws {
        let weight = Graph.Constant(
            name: "w", value: .codes(GraphSamples.codes([5, 5], seed: 1)))
        let bias = Graph.Constant(name: "b", value: .sums([100, -200, 300, 400, 0]))
        func layer(_ operand: Graph.Operand) -> Graph.Node {
            Graph.Node(
                name: "layer", op: .linear(Op.Linear()),
                operands: [operand, .constant(0), .constant(1)],
                quantization: GraphSamples.grid(0.5))
        }
        let graph = Graph(
            input: Graph.Input(name: "x", example: [5], quantization: GraphSamples.grid(0.25)),
            constants: [weight, bias], nodes: [layer(.input), layer(.node(0))], output: .node(1))
        try Fixtures.withFolder { folder in
            let (file, out) = (folder + "/two.espalier", folder + "/two.safetensors")
            try write(graph, to: file)
            _ = try FileExport(file, stage: nil, format: .safetensors, to: out)
            let tensors = try SafeTensors(contentsOf: out)
            #expect(
                tensors.entries.keys.sorted()
                    == ["layer.bias", "layer.bias.2", "layer.weight", "layer.weight.2"])
            let (one, two) = (
                try tensors.tensor("layer.bias").elements,
                try tensors.tensor("layer.bias.2").elements
            )
            // The second one counts in units of twice the first one's.
            for (a, b) in zip(one, two) { #expect(abs(2 * a - b) <= 1e-5 * abs(b)) }
            #expect(one[0] != 0)
        }
    }

    @Test("A file that does not say what it is for can be verified and measured, not evaluated")
    func noInformation() throws {
        try Fixtures.withFolder { folder in
            let file = folder + "/plain.espalier"
            try write(GraphSamples.tiny, to: file)
            let verified = try FileVerification(file)
            #expect(verified.description.contains("[4, 4, 1]"))
            let bench = try FileBench(file: file, batches: [1], calls: 1, comparesDense: true)
            #expect(bench.rows.count == 1)
            let problem = message {
                _ = try NetworkEvaluation(file: file, data: folder, part: "test")
            }
            #expect(problem?.contains("does not say what") == true, "\(problem ?? "none")")
            let input = folder + "/x.f32"
            try Data(repeating: 0, count: 4 * 16 * 3).write(to: URL(fileURLWithPath: input))
            try #expect(FileRun(file: file, input: input).rows.count == 3)
            // Each path is named once.
            let missing = message { _ = try FileRun(file: folder + "/none", input: input) }
            #expect(missing?.components(separatedBy: "none").count == 2, "\(missing ?? "")")
            for path in [folder, folder + "/none", input] {
                #expect(message { _ = try FileVerification(path) }?.contains(path) == true)
            }
        }
    }

    @Test("A network that does not fit its task or its data is refused")
    func tasks() throws {
        func network(_ image: Shape, _ classes: Int) -> Graph {
            var graph = GraphSamples.single(
                .reshape(Op.Reshape(to: [-1, image.elementCount])), image,
                [])
            graph.constants = [GraphSamples.constant("w", [classes, image.elementCount])]
            graph.nodes.append(
                Graph.Node(
                    name: "head", op: .linear(Op.Linear()), operands: [.node(0), .constant(0)]))
            graph.output = .node(1)
            return graph
        }
        try Fixtures.withFolder { folder in
            let file = folder + "/network.espalier"
            func evaluate(_ image: Shape, _ classes: Int, _ task: String) throws -> String? {
                try write(network(image, classes), Self.information(task), to: file)
                try Fixtures.writeIDX(
                    [UInt8](repeating: 9, count: 2 * image.elementCount), [2, image[0], image[1]],
                    to: folder + "/t10k-images-idx3-ubyte")
                try Fixtures.writeIDX([0, 2], [2], to: folder + "/t10k-labels-idx1-ubyte")
                return message {
                    let result = try NetworkEvaluation(file: file, data: folder, part: "test")
                    #expect(result.count == (task == "rotation" ? 8 : 2))
                }
            }
            // There is no training part: what is measured is all there is.
            try #expect(evaluate([3, 3, 1], 3, "classes") == nil)
            try #expect(evaluate([3, 3, 1], 4, "rotation") == nil)
            try #expect(evaluate([3, 3, 1], 3, "rotation")?.contains("four classes") == true)
            try #expect(evaluate([3, 4, 1], 4, "rotation")?.contains("square") == true)
            try #expect(evaluate([3, 3, 1], 2, "classes")?.contains("label 1") == true)
        }
    }
}
