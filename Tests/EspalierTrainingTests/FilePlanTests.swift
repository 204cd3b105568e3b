import EspalierCodec
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Testing

@Suite("Plans of files, for people") struct FilePlanTests {
    @Test("Each step has its line; times are there where they are asked for")
    func lines() throws {
        let graph = try QuantizedConvnet(seed: 6, masks: true)
            .recordedGraph(example: [8, 8, 1]).folded()
        try Fixtures.withFolder { folder in
            let path = folder + "/network.espalier"
            try FileAccess.writeAtomically(try graph.encoded(), to: path)
            let plain = try FilePlan(file: path, batch: 64).description
            #expect(plain.contains("columns of 64 examples"))
            for name in ["quantize", "conv1", "max_pool2d1", "conv2", "hidden", "head"] {
                #expect(plain.contains("\n\(name) "))
            }
            #expect(!plain.contains("share"))
            let timed = try FilePlan(file: path, batch: 1, calls: 2).description
            #expect(timed.contains("share") && timed.contains("us a column"))
            #expect(throws: FileError.self) { try FilePlan(file: folder + "/none", batch: 1) }
            let bench = try FileBench(file: path, batches: [2], calls: 3, comparesDense: true)
            #expect(bench.rows.count == 1 && bench.opening > 0)
            #expect(bench.description.contains("opened in"))
        }
    }
}
