import CEspalierKernels
import COpenBLAS
import EspalierKernels
import EspalierTensors
import EspalierTraining

/// The runtime's own float product against OpenBLAS, both on one thread.
enum FloatCases {
    static var all: [Benchmark] {
        [(384, 1536), (1024, 1024)].flatMap { inputs, outputs in
            [1, 16, 128].map { rows in
                Benchmark(name: "f32/dense") { measure($0, rows, inputs, outputs) }
            }
        }
    }

    private static func measure(_ meter: Meter, _ rows: Int, _ inputs: Int, _ outputs: Int)
        -> Measurement
    {
        let random = RandomStream(seed: 1)
        let x = random.child(0).normal(rows * inputs)
        let weights = random.child(1).normal(outputs * inputs)
        let layer = DenseFloat(
            weights, bias: [Float](repeating: 0, count: outputs), outputs: outputs, taps: 1,
            channels: inputs)
        let window = esp_window.linear(rows: rows, channels: inputs)
        let kernels = unsafe KernelTable.current
        var (y, z) = ([Float](repeating: 0, count: rows * outputs), [Float]())
        z = y
        openblas_set_num_threads(1)
        let times = unsafe x.withUnsafeBufferPointer { x in
            unsafe weights.withUnsafeBufferPointer { w in
                unsafe y.withUnsafeMutableBufferPointer { y in
                    unsafe z.withUnsafeMutableBufferPointer { z in
                        guard let from = x.baseAddress, let to = y.baseAddress else {
                            fatalError("empty operands")
                        }
                        return meter.compare(
                            {
                                unsafe layer.multiply(
                                    kernels, window, image: from, first: 0, count: rows, into: to,
                                    pitch: outputs)
                            },
                            {
                                unsafe cblas_sgemm(
                                    CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows),
                                    Int32(outputs), Int32(inputs), 1, from, Int32(inputs),
                                    w.baseAddress, Int32(inputs), 0, z.baseAddress, Int32(outputs))
                            })
                    }
                }
            }
        }
        let operations = 2 * Double(rows) * Double(inputs) * Double(outputs)
        return Measurement(
            "f32/dense", shape: "\(rows)x\(outputs)x\(inputs)", threads: 1,
            rate: { operations / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: "OpenBLAS sgemm on one thread", times)
    }
}
