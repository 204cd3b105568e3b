import COpenBLAS
import EspalierEngine
import EspalierTensors
import EspalierTraining

/// Products through our tiles (one-threaded calls in our pool) against one plain call of OpenBLAS with its own
/// threads, both on the same core type.
enum ProductCases {
    private static let shapes = [
        (128, 128, 128), (512, 512, 512), (1024, 1024, 1024), (2048, 1536, 384), (2048, 384, 1536),
        (128, 512, 784), (128, 1536, 384), (16, 1536, 384),
    ]

    static var all: [Benchmark] {
        shapes.map { rows, columns, depth in
            Benchmark(name: "sgemm") { meter in
                measure(meter, rows: rows, columns: columns, depth: depth)
            }
        }
    }

    private static func measure(_ meter: Meter, rows: Int, columns: Int, depth: Int) -> Measurement
    {
        let random = RandomStream(seed: 1)
        let x = Tensor(random.child(0).normal(rows * depth), shape: [rows, depth])
        let weight = Tensor(random.child(1).normal(columns * depth), shape: [columns, depth])
        var (y, z) = (Tensor.zeros([rows, columns]), Tensor.zeros([rows, columns]))
        let threads = Machine.threads
        let times = unsafe reading(x, weight) { x, weight in
            unsafe y.writing { y in
                unsafe z.writing { z in
                    meter.compare(
                        prepare: { side in
                            openblas_set_num_threads(side == 0 ? 1 : Int32(threads))
                        },
                        {
                            unsafe BLAS.multiplyTiled(
                                BLAS.Operand(x, pitch: depth),
                                BLAS.Operand(weight, pitch: depth, transposed: true), into: y,
                                pitch: columns, rows: rows, columns: columns, depth: depth)
                        },
                        {
                            unsafe cblas_sgemm(
                                CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows),
                                Int32(columns), Int32(depth), 1, x, Int32(depth), weight,
                                Int32(depth), 0, z, Int32(columns))
                        })
                }
            }
        }
        openblas_set_num_threads(1)
        let operations = 2 * Double(rows) * Double(columns) * Double(depth)
        return Measurement(
            "sgemm", shape: "\(rows)x\(columns)x\(depth)", threads: threads,
            rate: { operations / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: "OpenBLAS on \(threads) threads of its own", times)
    }
}
