import CEspalierKernels
import EspalierKernels
import EspalierTensors
import EspalierTraining
import Foundation

/// Sparse INT8 convolutions over planes against the dense kernel, both from rows to rows on one thread.
enum ConvolutionCases {
    static var all: [Benchmark] {
        [28, 14].flatMap { side in
            [(SparseInt8.Block.oneByFour, "1x4"), (.fourByFour, "4x4")].flatMap { block, name in
                [0.8, 0.9, 0.95].map { sparsity in
                    Benchmark(name: "int8/conv \(name)") {
                        measure($0, block, name, sparsity, side: side, channels: 64)
                    }
                }
            }
        }
    }

    private static func measure(
        _ meter: Meter, _ block: SparseInt8.Block, _ name: String, _ sparsity: Double, side: Int,
        channels: Int
    ) -> Measurement {
        var window = esp_window.linear(rows: side, channels: channels)
        (window.height, window.out_height) = (Int32(side), Int32(side))
        (window.kernel_height, window.kernel_width) = (3, 3)
        (window.pad_top, window.pad_left) = (1, 1)
        let layer = Int8Cases.Layer(
            rows: side * side, inputs: 9 * channels, outputs: channels,
            block: block == .oneByFour ? (1, 4) : (4, 4), sparsity: sparsity)
        let sparse = SparseInt8(
            layer.weights, outputs: channels, taps: 9, channels: channels, block: block,
            inputZeroPoint: 3, layer.table)
        guard let geometry = PlanarConvolution(window, block: block),
            let convolution = DenseConvolution(window)
        else { fatalError("no stride 1") }
        let dense = DenseInt8(
            layer.weights, outputs: channels, taps: convolution.taps,
            channels: convolution.channels, inputZeroPoint: 3, layer.table)
        let kernels = unsafe KernelTable.current
        let pixels = side * side
        let scratch = PackedBuffer(
            count: max(geometry.scratchBytes(for: sparse), convolution.scratchBytes))
        let (y, z) = (
            PackedBuffer(count: pixels * channels), PackedBuffer(count: pixels * channels)
        )
        let times = unsafe layer.codes.withUnsafeBufferPointer { x in
            unsafe y.writing { y in
                unsafe z.writing { z in
                    unsafe scratch.writing { scratch in
                        guard let x = x.baseAddress else { fatalError("no image") }
                        return meter.compare(
                            {
                                unsafe geometry.multiply(
                                    kernels, sparse, image: x,
                                    scratch: scratch.assumingMemoryBound(to: UInt8.self),
                                    into: y.assumingMemoryBound(to: UInt8.self), pitch: channels)
                            },
                            {
                                unsafe convolution.multiply(
                                    kernels, dense, image: x,
                                    scratch: scratch.assumingMemoryBound(to: UInt8.self),
                                    kind: ESP_OUT_U8, into: z, pitch: channels)
                            })
                    }
                }
            }
        }
        let table = CostTable.shipped(ISA.current)
        let sparseNanoseconds = table.sparse(
            block: block, entries: sparse.liveBlocks, outputs: channels, geometry)
        let denseNanoseconds = table.dense(
            rows: pixels, outputs: channels, depth: 9 * channels, windowRows: 3)
        return Int8Cases.measurement(
            "int8/conv \(name)",
            "3x3 \(channels) \(side)x\(side) \(Int((100 * sparsity).rounded())) %", times,
            pixels * 9 * channels * channels,
            String(
                format: "our dense INT8; estimate/best %.2f and %.2f",
                sparseNanoseconds * 1e-9 / times.ours.best,
                denseNanoseconds * 1e-9 / times.baseline.best))
    }
}
