import EspalierCodec
import EspalierGraph
import EspalierInterchange
import EspalierNN
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// What a run leaves for others: one file, which says what the trained network says.
@Suite struct ExportTests {
    private func withQuantizedRun<Result>(
        set assignments: [String] = TinyRun.quantized,
        _ body: (TinyRun, RunResult, _ file: String) throws -> Result
    ) throws -> Result {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let result = try tiny.run("run", set: assignments)
            return try body(tiny, result, folder + "/run/student/network.espalier")
        }
    }

    private func graph(_ path: String) throws -> Graph { try GraphFile(FileBytes(path)).graph() }

    @Test("The table's deployed figures are those of the file on the disk")
    func resultOfTheFile() throws {
        for set in [TinyRun.quantized, TinyRun.quantizedAtTheEnd, []] {
            try withQuantizedRun(set: set) { tiny, result, path in
                #expect(result.deployedAccuracy == result.trainedAccuracy)
                #expect(result.predictionsEqual == true)
                #expect(result.studentBytes == FileManager.default.contents(atPath: path)?.count)
                let teacher = tiny.folder + "/run/task_teacher/network.safetensors"
                #expect(result.teacherBytes == FileManager.default.contents(atPath: teacher)?.count)
                let latency = try #require(result.latencyMs)
                for times in [latency.denseFloat, latency.deployed] {
                    #expect(times.batch1 > 0 && times.batch64 > times.batch1)
                }
                let tape = try #require(result.tape)
                #expect(tape.count == 40 && tape.codesWithinOne >= 0.999)
                #expect(tape.sameClass >= 39)
                let file = try NetworkEvaluation(
                    file: path, data: tiny.folder + "/datasets/tiny", part: "test")
                #expect(file.correct == result.stages.first { $0.stage == "student" }?.testCorrect)
                let trained = try NetworkEvaluation(
                    file: tiny.folder + "/run/student/network.safetensors",
                    data: tiny.folder + "/datasets/tiny", part: "test", comparesLayers: true)
                #expect(trained.correct == file.correct && trained.loss == file.loss)
                let names = trained.comparison?.layers.map(\.name) ?? []
                #expect(names.contains("conv1") && names.contains("head"))
            }
        }
    }

    @Test("T3.7 and T10.6: the file's size is the formula's, to the byte")
    func T3_7_size() throws {
        try withQuantizedRun { _, _, path in
            let sizes = try GraphFile(FileBytes(path)).reader.sizes
            // conv1 4 x 9, hidden 16 x 36 of which 144 quarters live as 1x4 blocks, head 4 x 16.
            let (dense, prunable) = (4 * 9 + 4 * 16, 16 * 36)
            #expect(sizes.data(.weight) == dense + prunable / 4)
            #expect(sizes.data(.mask) == prunable / 4 / 8)
            #expect(sizes.data(.scale) == 4 * (4 + 16 + 4))
            #expect(sizes.data(.bias) == 4 * (4 + 16 + 4))
            let parts = ContainerNetwork.Kind.allCases.reduce(0) { $0 + sizes.data($1) }
            #expect(parts + sizes.headers + sizes.padding == sizes.total)
            #expect(sizes.total == FileManager.default.contents(atPath: path)?.count)
        }
    }

    @Test("The file holds integers: few codes an output, zeros under the mask, biases as sums")
    func integers() throws {
        try withQuantizedRun { tiny, _, path in
            let graph = try graph(path)
            #expect(
                graph.nodes.map(\.name) == ["conv1", "max_pool2d1", "reshape1", "hidden", "head"])
            let network = try NetworkFile(
                contentsOf: tiny.folder + "/run/student/network.safetensors"
            ).network
            for name in ["conv1", "hidden", "head"] {
                let weight = try #require(ParameterSet(network)[name + ".weight"])
                let node = try #require(graph.nodes.first { $0.name == name })
                guard case .constant(let index) = node.operands[1],
                    case .codes(let codes) = graph.constants[index].value,
                    case .constant(let bias) = node.operands[2],
                    case .sums = graph.constants[bias].value
                else {
                    Issue.record("\(name) is not of integers")
                    continue
                }
                #expect(codes.shape == weight.shape && graph.constants[index].mask == weight.mask)
                // What the codes stand for is within half a step of the trained weight.
                let (steps, values) = (codes.scalesOfOutputs, weight.value.elements)
                let size = codes.codes.count / steps.count
                for (index, value) in codes.dequantized.elements.enumerated() {
                    #expect(abs(value - values[index]) <= 0.501 * steps[index / size])
                    if weight.mask?.isLive(index) == false { #expect(codes.codes[index] == 0) }
                }
            }
            let information = try DeployedNetwork(contentsOf: path).information
            #expect(information.lineage.stage == "student")
            #expect(information.lineage.teacher?.name == "task_teacher")
        }
    }

    @Test("Another format, another reader: floats in safetensors, inputs of the user's own")
    func otherFormats() throws {
        try withQuantizedRun { tiny, _, path in
            let other = tiny.folder + "/floats.safetensors"
            _ = try FileExport(path, stage: nil, format: .safetensors, to: other)
            let floats = try SafeTensors(contentsOf: other)
            #expect(
                floats.entries.keys.sorted() == [
                    "conv1.bias", "conv1.weight", "head.bias", "head.weight", "hidden.bias",
                    "hidden.weight",
                ])
            let network = try NetworkFile(
                contentsOf: tiny.folder + "/run/student/network.safetensors"
            ).network
            for entry in ParameterSet(network).entries {
                let value = try floats.tensor(entry.name)
                #expect(value.shape == entry.parameter.shape)
                for (a, b) in zip(value.elements, entry.parameter.value.elements) {
                    #expect(abs(a - b) < 0.02)
                }
            }
            // The same bytes from the run's folder, the stage's folder and the network's file.
            for (index, source) in ["/run", "/run/student", "/run/student/network.safetensors"]
                .enumerated()
            {
                let copy = "\(tiny.folder)/copy\(index).espalier"
                _ = try FileExport(tiny.folder + source, stage: nil, format: .espalier, to: copy)
                let manager = FileManager.default
                #expect(manager.contents(atPath: copy) == manager.contents(atPath: path))
            }
            let images = tiny.folder + "/datasets/tiny/t10k-images-idx3-ubyte"
            let byImages = try FileRun(file: path, input: images)
            #expect(byImages.rows.count == 40)
            let data = try #require(FileManager.default.contents(atPath: images))
            let scale = Float(
                1 / (try DeployedNetwork(contentsOf: path)).information.largestPixel)
            let raw = data.dropFirst(16).flatMap { byte in
                let bits = (Float(byte) * scale).bitPattern
                return (0..<4).map { UInt8(truncatingIfNeeded: bits >> (8 * $0)) }
            }
            try Data(raw).write(to: URL(fileURLWithPath: tiny.folder + "/x.f32"))
            let byFloats = try FileRun(file: path, input: tiny.folder + "/x.f32")
            #expect(byFloats.rows.map(\.outputs) == byImages.rows.map(\.outputs))
            #expect(FileInspectionText.of(path).contains("hidden"))
            #expect(FileInspectionText.of(other).contains("hidden.weight"))
        }
    }

    @Test("A stage starts from an exported file: its weights as values, its masks")
    func startFromTheFile() throws {
        try withQuantizedRun { tiny, _, path in
            let recipe = """
                name: further
                data:
                  classes: {dataset: tiny, classes: 4, dev: 20%}
                stages:
                  - name: more
                    start_from: \(path)
                    on: classes
                    epochs: 2
                    lock_masks: true
                    quantize: {from: 50%}
                    distill: {teacher: \(path)}
                """
            let file = tiny.folder + "/recipes/further.yaml"
            try recipe.write(toFile: file, atomically: false, encoding: .utf8)
            let start = try NetworkFile(contentsOf: path)
            let pattern = ParameterSet(start.network)["hidden.weight"]?.mask
            #expect(pattern?.liveCount == 144)
            let result = try TrainingRun(
                recipe: Recipe.checked(path: file), folder: tiny.folder + "/further"
            ).run()
            #expect(result.stages.first?.pruned == 432)
            let more = try NetworkFile(
                contentsOf: tiny.folder + "/further/more/network.safetensors")
            #expect(ParameterSet(more.network)["hidden.weight"]?.mask == pattern)
            #expect(more.description.lineage.startFrom?.checksum == start.checksum)
            #expect(more.description.lineage.steps > start.description.lineage.steps)
        }
    }

    private enum FileInspectionText {
        static func of(_ path: String) -> String {
            (try? FileInspection(path).description) ?? ""
        }
    }

    @Test("A file that is too large ends the run with its size, and without a result")
    func sizeBelow() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let error = #expect(throws: TrainingError.self) {
                try tiny.run("run", set: TinyRun.quantized + ["export.require.size_below=900 B"])
            }
            #expect(error?.description.contains("900") == true)
            for name in ["result.json", "student/network.espalier"] {
                #expect(!FileManager.default.fileExists(atPath: "\(folder)/run/\(name)"))
            }
        }
    }

    @Test(
        "Faults in a recipe's export are told with their place",
        arguments: [
            ("export.stage=studnt", "did you mean 'student'?"),
            ("export.stage=task_teacher", "belong to one file"),
            ("export.format=onnx", "onnx"),
            ("export.require.size_below=12 apples", "12 apples"),
            ("export.require.size_below=0", "'0'"),
            ("export.require.predictions=similar", "similar"),
            ("export.requires={}", "unknown key 'requires'"),
            ("report=~", "needs a 'report'"),
            ("report.student=task_teacher", "twice"),
        ])
    func faults(assignment: String, message: String) throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let error = #expect(throws: RecipeError.self) {
                try Recipe.checked(path: tiny.path, assignments: [assignment])
            }
            #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
        }
    }

    @Test("Cost tables are written, read, kept with a run, and refused where they do not fit")
    func costs() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let kept = folder + "/run/costs.json"
            try Machine.useCosts(kept)
            let text = try String(contentsOfFile: kept, encoding: .utf8)
            let other = folder + "/other.json"
            try text.replacing("\"\(ISA.current.rawValue)\"", with: "\"neon\"")
                .write(toFile: other, atomically: false, encoding: .utf8)
            let error = #expect(throws: FileError.self) { try Machine.useCosts(other) }
            #expect(error?.description.contains("neon") == true)
            try "{}".write(toFile: other, atomically: false, encoding: .utf8)
            #expect(throws: FileError.self) { try Machine.useCosts(other) }
            #expect(throws: FileError.self) { try Machine.useCosts(folder + "/none.json") }
        }
    }
}
