import EspalierEngine
import EspalierKernels
import EspalierTensors
import EspalierTraining

/// Our own products against OpenBLAS on the right core type: one-threaded calls on tiles, in the same pool.
enum ProductCases {
    /// Which product of a linear layer: x Wᵀ, dy W or dyᵀ x.
    enum Kind: String {
        case forward, input, weight

        var transposesA: Bool { self == .weight }
        var transposesB: Bool { self == .forward }
    }

    private static let shapes: [(Kind, Int, Int, Int)] = [
        (.forward, 128, 512, 784), (.forward, 128, 512, 512), (.forward, 128, 10, 512),
        (.forward, 128, 1536, 384), (.forward, 16, 1536, 384), (.forward, 1, 1536, 384),
        (.forward, 2048, 384, 384), (.forward, 2048, 1536, 384), (.forward, 2048, 384, 1536),
        (.forward, 4096, 8192, 256), (.forward, 4096, 256, 8192),
        (.input, 128, 512, 512), (.input, 128, 512, 10), (.input, 128, 384, 1536),
        (.input, 16, 384, 1536), (.input, 1, 384, 1536), (.input, 2048, 384, 384),
        (.input, 2048, 384, 1536), (.input, 2048, 1536, 384), (.input, 4096, 256, 8192),
        (.weight, 512, 784, 128), (.weight, 512, 512, 128), (.weight, 10, 512, 128),
        (.weight, 1536, 384, 2048), (.weight, 384, 1536, 2048), (.weight, 384, 384, 2048),
        (.weight, 8192, 256, 4096), (.weight, 1536, 384, 16),
    ]
    /// Heads of attention: q kᵀ, p v and their gradients.
    private static let heads: [(Kind, Int, Int, Int)] = [
        (.forward, 128, 128, 32), (.input, 128, 32, 128), (.weight, 128, 32, 128),
    ]

    static var all: [Benchmark] {
        shapes.map { kind, rows, columns, depth in
            Benchmark(name: "product/\(kind)") {
                measure($0, kind, rows, columns, depth, count: 1)
            }
        }
            + heads.map { kind, rows, columns, depth in
                Benchmark(name: "product/heads/\(kind)") {
                    measure($0, kind, rows, columns, depth, count: 192)
                }
            }
    }

    private static func measure(
        _ meter: Meter, _ kind: Kind, _ rows: Int, _ columns: Int, _ depth: Int, count: Int
    ) -> Measurement {
        let random = RandomStream(seed: 1)
        let a = Tensor(random.child(0).normal(count * rows * depth), shape: [count, rows, depth])
        let b = Tensor(
            random.child(1).normal(count * columns * depth), shape: [count, columns, depth])
        var (y, z) = (Tensor.zeros([count, rows, columns]), Tensor.zeros([count, rows, columns]))
        let times = unsafe reading(a, b) { a, b in
            unsafe y.writing { y in
                unsafe z.writing { z in
                    func left(_ index: Int) -> MatrixOperand {
                        unsafe MatrixOperand(
                            a + index * rows * depth, pitch: kind.transposesA ? rows : depth,
                            transposed: kind.transposesA)
                    }
                    func right(_ index: Int) -> MatrixOperand {
                        unsafe MatrixOperand(
                            b + index * columns * depth, pitch: kind.transposesB ? depth : columns,
                            transposed: kind.transposesB)
                    }
                    return meter.compare(
                        {
                            ThreadPool.shared.forEachChunk(count) { index in
                                unsafe Product(
                                    left(index), right(index), rows: rows, columns: columns,
                                    depth: depth
                                ).multiply(into: y + index * rows * columns, pitch: columns)
                            }
                        },
                        {
                            ThreadPool.shared.forEachChunk(count) { index in
                                unsafe BLAS.multiplyTiled(
                                    left(index), right(index), into: z + index * rows * columns,
                                    pitch: columns, rows: rows, columns: columns, depth: depth)
                            }
                        })
                }
            }
        }
        let operations = 2 * Double(count) * Double(rows) * Double(columns) * Double(depth)
        let shape = "\(rows)x\(columns)x\(depth)"
        return Measurement(
            count == 1 ? "product/\(kind)" : "product/heads/\(kind)",
            shape: count == 1 ? shape : "\(count) of \(shape)", threads: Machine.threads,
            rate: { operations / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: "OpenBLAS on tiles in the same pool", times)
    }
}
