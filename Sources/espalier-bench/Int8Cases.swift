import CEspalierKernels
import EspalierKernels
import EspalierTensors
import EspalierTraining

/// INT8 layers on one thread: the dense kernel against oneDNN's product, block-sparse ones against the dense kernel.
enum Int8Cases {
    private static let shapes = [(384, 1536), (1024, 1024)]

    static var all: [Benchmark] {
        shapes.flatMap { inputs, outputs in
            [1, 16, 128].map { rows in
                Benchmark(name: "int8/dense") { dense($0, rows, inputs, outputs) }
            }
                + [(SparseInt8.Block.oneByFour, "1x4"), (.fourByFour, "4x4")].flatMap {
                    block, name in
                    [0.8, 0.9, 0.95].map { sparsity in
                        Benchmark(name: "int8/\(name)") {
                            sparse($0, block, name, sparsity, 128, inputs, outputs)
                        }
                    }
                }
        }
    }

    struct Layer {
        let codes: [UInt8]
        let weights: [Int8]
        let table: Requantization
        let window: esp_window

        init(rows: Int, inputs: Int, outputs: Int, block: (Int, Int) = (1, 1), sparsity: Double = 0)
        {
            let random = RandomStream(seed: 5)
            codes = random.words(rows * inputs).map { UInt8($0 & 255) }
            // Exactly as many live blocks as the sparsity says, at random places.
            let grid = (outputs / block.0, inputs / block.1)
            let live = Set(
                random.child(3).permutation(grid.0 * grid.1).prefix(
                    Int((Double(grid.0 * grid.1) * (1 - sparsity)).rounded())))
            weights = random.child(1).words(outputs * inputs).enumerated().map { index, word in
                let block = index / inputs / block.0 * grid.1 + index % inputs / block.1
                return live.contains(block) ? Int8(truncatingIfNeeded: word | 1) : 0
            }
            table = Requantization(
                bias: [Int32](repeating: 100, count: outputs),
                scale: [Float](repeating: 1e-4, count: outputs), zeroPoint: 30)
            window = .linear(rows: rows, channels: inputs)
        }
    }

    private static func dense(_ meter: Meter, _ rows: Int, _ inputs: Int, _ outputs: Int)
        -> Measurement
    {
        let layer = Layer(rows: rows, inputs: inputs, outputs: outputs)
        let packed = DenseInt8(
            layer.weights, outputs: outputs, taps: 1, channels: inputs, inputZeroPoint: 0,
            layer.table)
        let kernels = unsafe KernelTable.current
        var sums = [Int32](repeating: 0, count: rows * outputs)
        var theirs = sums
        let times = unsafe layer.codes.withUnsafeBufferPointer { x in
            unsafe layer.weights.withUnsafeBufferPointer { w in
                unsafe sums.withUnsafeMutableBytes { y in
                    unsafe theirs.withUnsafeMutableBufferPointer { z in
                        guard let x = x.baseAddress, let w = w.baseAddress, let y = y.baseAddress,
                            let z = z.baseAddress
                        else { fatalError("empty operands") }
                        return meter.compare(
                            {
                                unsafe packed.multiply(
                                    kernels, layer.window, image: x, first: 0, count: rows,
                                    kind: ESP_OUT_S32, into: y, pitch: outputs)
                            },
                            {
                                // oneDNN packs the weights in each call; there is no prepacked form of this product.
                                unsafe OneDNN.multiply(x, w, z, rows, outputs, inputs)
                            })
                    }
                }
            }
        }
        if OneDNN.isInstalled, zip(sums, theirs).contains(where: { $0 != $1 + 100 }) {
            fatalError("oneDNN's sums differ from ours")
        }
        return measurement(
            "int8/dense", "\(rows)x\(outputs)x\(inputs)", times, rows * inputs * outputs,
            OneDNN.isInstalled
                ? "oneDNN's gemm_u8s8s32, one thread" : "nothing: oneDNN is not there")
    }

    private static func sparse(
        _ meter: Meter, _ block: SparseInt8.Block, _ name: String, _ sparsity: Double, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) -> Measurement {
        let size = block == .oneByFour ? (1, 4) : (4, 4)
        let layer = Layer(
            rows: rows, inputs: inputs, outputs: outputs, block: size, sparsity: sparsity)
        let sparse = SparseInt8(
            layer.weights, outputs: outputs, channels: inputs, block: block, layer.table)
        let times = times(meter, layer, sparse, fromRows: false)
        return measurement(
            "int8/\(name)", "\(rows)x\(outputs)x\(inputs) \(Int((100 * sparsity).rounded())) %",
            times,
            rows * inputs * outputs, "our dense INT8")
    }

    /// Times of a sparse layer and of the dense kernel with the same weights.
    ///
    /// - Parameter fromRows: Whether blocks of tokens are made from rows, and made rows again; else they stay blocks.
    static func times(_ meter: Meter, _ layer: Layer, _ sparse: SparseInt8, fromRows: Bool) -> (
        ours: Meter.Sample, baseline: Meter.Sample
    ) {
        let (rows, inputs, outputs) = (Int(layer.window.width), sparse.channels, sparse.outputs)
        let dense = DenseInt8(
            layer.weights, outputs: outputs, taps: 1, channels: inputs, inputZeroPoint: 0,
            layer.table)
        let kernels = unsafe KernelTable.current
        let blocks = (rows + 63) / 64
        let x = PackedBuffer(count: blocks * inputs * 64)
        let y = PackedBuffer(count: blocks * outputs * 64)
        let scratch = PackedBuffer(count: sparse.scratchBytes)
        let rowsOfCodes = PackedBuffer(layer.codes)
        let z = PackedBuffer(count: rows * outputs)
        func bytes(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt8> {
            unsafe pointer.assumingMemoryBound(to: UInt8.self)
        }
        return unsafe x.writing { x in
            unsafe y.writing { y in
                unsafe scratch.writing { scratch in
                    unsafe z.writing { z in
                        unsafe rowsOfCodes.writing { codes in
                            func toBlock(_ block: Int) {
                                unsafe kernels.u8_to_block(
                                    bytes(codes) + block * 64 * inputs, inputs,
                                    min(64, rows - block * 64), inputs,
                                    bytes(x) + block * 64 * inputs)
                            }
                            func fromBlock(_ block: Int) {
                                unsafe kernels.u8_from_block(
                                    bytes(y) + block * 64 * outputs, min(64, rows - block * 64),
                                    outputs, bytes(z) + block * 64 * outputs, outputs)
                            }
                            for block in 0..<blocks { toBlock(block) }
                            return meter.compare(
                                {
                                    for block in 0..<blocks {
                                        if fromRows { toBlock(block) }
                                        unsafe sparse.multiply(
                                            kernels, bytes(x) + block * 64 * inputs,
                                            scratch: bytes(scratch),
                                            into: bytes(y) + block * 64 * outputs)
                                        if fromRows { fromBlock(block) }
                                    }
                                },
                                {
                                    unsafe dense.multiply(
                                        kernels, layer.window, image: bytes(codes), first: 0,
                                        count: rows, kind: ESP_OUT_U8, into: z, pitch: outputs)
                                })
                        }
                    }
                }
            }
        }
    }

    static func measurement(
        _ name: String, _ shape: String, _ times: (ours: Meter.Sample, baseline: Meter.Sample),
        _ products: Int, _ baseline: String
    ) -> Measurement {
        Measurement(
            name, shape: shape, threads: 1, rate: { 2 * Double(products) / $0 * 1e-9 },
            unit: "GOP/s",
            baseline: baseline, times)
    }
}
