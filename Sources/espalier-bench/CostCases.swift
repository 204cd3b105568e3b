import CEspalierKernels
import EspalierKernels
import EspalierTensors
import EspalierTraining
import Foundation

/// The shipped cost table's estimates beside measured times.
enum CostCases {
    /// A new table of this machine as JSON, for the kernels in use.
    static func tuned() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return String(decoding: try encoder.encode(CostTable.measured()), as: UTF8.self)
    }

    static var all: [Benchmark] {
        [(1, 384, 1536), (16, 384, 1536), (64, 768, 256), (128, 1024, 1024), (128, 128, 128)]
            .flatMap { rows, inputs, outputs in
                [0.0, 0.5, 0.8, 0.9, 0.95].flatMap { sparsity in
                    [(SparseInt8.Block.oneByFour, "1x4"), (.fourByFour, "4x4")].map { block, name in
                        Benchmark(name: "cost/\(name)") {
                            measure($0, block, name, sparsity, rows, inputs, outputs)
                        }
                    }
                }
            }
    }

    private static func measure(
        _ meter: Meter, _ block: SparseInt8.Block, _ name: String, _ sparsity: Double, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) -> Measurement {
        let layer = Int8Cases.Layer(
            rows: rows, inputs: inputs, outputs: outputs,
            block: block == .oneByFour ? (1, 4) : (4, 4), sparsity: sparsity)
        let sparse = SparseInt8(
            layer.weights, outputs: outputs, channels: inputs, block: block, layer.table)
        let times = Int8Cases.times(meter, layer, sparse, fromRows: true)
        let table = CostTable.shipped(ISA.current)
        let (a, b) = (
            table.sparse(
                block: block, entries: sparse.liveBlocks, outputs: outputs, inputs: inputs,
                rows: rows) * 1e-9,
            table.dense(rows: rows, outputs: outputs, depth: inputs) * 1e-9
        )
        let choice = table.choose(
            block: block, entries: sparse.liveBlocks, outputs: outputs, inputs: inputs, rows: rows)
        let loss =
            choice == .sparse
            ? times.ours.best / times.baseline.best : times.baseline.best / times.ours.best
        return Measurement(
            "cost/\(name)",
            shape: "\(rows)x\(outputs)x\(inputs) \(Int((100 * sparsity).rounded())) %", threads: 1,
            rate: { _ in a / times.ours.best }, unit: "estimate/best",
            baseline: String(
                format: "dense (estimate/best %.2f): chosen %@, %.2f of the other's time",
                b / times.baseline.best, choice == .sparse ? "sparse" : "dense", loss), times)
    }
}
