import EspalierKernels
import EspalierTensors
import EspalierTraining

/// Products of factors rounded to bfloat16: pairs against the widened ones, and against floats.
enum HalfProductCases {
    private static let shapes: [(ProductCases.Kind, Int, Int, Int)] = [
        (.forward, 2048, 1536, 384), (.forward, 2048, 384, 1536), (.forward, 128, 512, 784),
        (.input, 2048, 384, 1536), (.weight, 1536, 384, 2048),
    ]

    static var all: [Benchmark] {
        shapes.flatMap { kind, rows, columns, depth in
            [true, false].map { isRounded in
                Benchmark(name: "product/bf16/\(kind)") {
                    measure($0, kind, rows, columns, depth, baselineIsRounded: isRounded)
                }
            }
        }
    }

    private static func measure(
        _ meter: Meter, _ kind: ProductCases.Kind, _ rows: Int, _ columns: Int, _ depth: Int,
        baselineIsRounded: Bool
    ) -> Measurement {
        let random = RandomStream(seed: 1)
        let a = Tensor(random.child(0).normal(rows * depth), shape: [rows, depth])
        let b = Tensor(random.child(1).normal(columns * depth), shape: [columns, depth])
        var y = Tensor.zeros([rows, columns])
        let times = unsafe reading(a, b) { a, b in
            unsafe y.writing { y in
                func multiply(isRounded: Bool, _ halves: HalfProducts) {
                    var product = unsafe Product(
                        MatrixOperand(
                            a, pitch: kind.transposesA ? rows : depth,
                            transposed: kind.transposesA),
                        MatrixOperand(
                            b, pitch: kind.transposesB ? depth : columns,
                            transposed: kind.transposesB), rows: rows, columns: columns,
                        depth: depth)
                    unsafe product.isRounded = isRounded
                    unsafe product.halves = halves
                    unsafe product.multiply(into: y, pitch: columns)
                }
                return meter.compare(
                    { multiply(isRounded: true, .native) },
                    { multiply(isRounded: baselineIsRounded, .widened) })
            }
        }
        let operations = 2 * Double(rows) * Double(columns) * Double(depth)
        return Measurement(
            "product/bf16/\(kind)", shape: "\(rows)x\(columns)x\(depth)",
            threads: Machine.threads, rate: { operations / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: baselineIsRounded ? "bfloat16 multiplied as floats" : "floats", times)
    }
}
