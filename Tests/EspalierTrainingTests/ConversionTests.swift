import EspalierCodec
import EspalierGraph
import EspalierInterchange
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Testing

/// Networks and tensors as NNC files, and back.
@Suite struct ConversionTests {
    @Test("Exported networks keep their integers and scales", arguments: GraphSamples.cases)
    func export(_ sample: GraphCase) throws {
        let graph = try sample.make()
        try Fixtures.withFolder { folder in
            let path = folder + "/network.espalier"
            try FileAccess.writeAtomically(graph.encoded(), to: path)
            _ = try FileExport(path, stage: nil, format: .nnc, to: folder + "/network.nnc")
            let file = try NNCReader(contentsOf: folder + "/network.nnc")
            let used = Set(
                graph.nodes.flatMap(\.operands).compactMap { operand -> Int? in
                    if case .constant(let index) = operand { return index }
                    return nil
                })
            for index in used {
                switch graph.constants[index].value {
                case .codes(let tensor):
                    let codes = tensor.codes.map(Int32.init)
                    let stored = try #require(
                        file.tensors.first {
                            $0.isInteger && $0.format == .int8 && $0.codes.elements == codes
                        })
                    #expect(stored.shape == tensor.shape)
                    let scale = try #require(file[stored.name + ".scale"])
                    #expect(
                        scale.floats.elements.map(\.bitPattern)
                            == tensor.parameters.scales.map(\.bitPattern))
                case .sums(let sums):
                    #expect(file.tensors.contains { $0.isInteger && $0.codes.elements == sums })
                case .floats(let tensor):
                    #expect(
                        file.tensors.contains { !$0.isInteger && $0.floats.count == tensor.count })
                }
            }
        }
    }

    @Test("Tensors there and back")
    func convert() throws {
        try Fixtures.withFolder { folder in
            var writer = SafeTensors.Writer()
            let weight = Fixtures.normal([20, 30], seed: 1)
            writer.add("weight", weight)
            writer.add("codes", integers: IndexTensor([1, -128, 127], shape: [3, 1]), type: .i8)
            writer.add("short", integers: IndexTensor([300, -300]), type: .i16)
            writer.add("count", integers: IndexTensor([70_000]))
            let paths = ["/a.safetensors", "/a.nnc", "/b.safetensors"].map { folder + $0 }
            try writer.write(to: paths[0])
            var options = NNCWriter.Options()
            options.isDependent = false
            for index in 0..<2 {
                _ = try FileConversion(paths[index], to: paths[index + 1], options: options)
            }
            let back = try SafeTensors(contentsOf: paths[2], requiresChecksum: true)
            let types = back.entries.mapValues(\.type)
            #expect(types == ["weight": .f32, "codes": .i8, "short": .i16, "count": .i32])
            #expect(try back.integers("codes").elements == [1, -128, 127])
            #expect(try back.integers("short").elements == [300, -300])
            #expect(try back.integers("count").elements == [70_000])
            let step = NNCStep.size(qp: -38, density: 2)
            for (a, b) in zip(try back.tensor("weight").elements, weight.elements) {
                #expect(abs(a - b) <= 0.5001 * step)
            }
            for (source, target) in [
                (paths[0], folder + "/c.safetensors"), (paths[1], folder + "/c.nnc"),
                (paths[0], folder + "/c"), (folder + "/none.nnc", paths[2]),
            ] {
                #expect(throws: FileError.self) {
                    try FileConversion(source, to: target, options: options)
                }
            }
            var masked = SafeTensors.Writer()
            masked.add("x_G", weight)
            try masked.write(to: folder + "/g.safetensors")
            #expect(throws: FileError.self) {
                try FileConversion(
                    folder + "/g.safetensors", to: folder + "/g.nnc", options: options)
            }
        }
    }
}
