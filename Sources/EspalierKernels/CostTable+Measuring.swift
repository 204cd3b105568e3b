import CEspalierKernels
package import EspalierTensors

extension CostTable {
    /// A table for this machine and these kernels, measured on this thread in about two seconds.
    ///
    /// Each coefficient is the slope between the shortest times of two layers that differ in it alone.
    package static func measured(_ isa: ISA = .current) -> CostTable {
        guard let kernels = unsafe KernelTable.table(for: isa)?.pointee else {
            fatalError("no kernels for \(isa)")
        }
        let dense = unsafe measuredDense(kernels)
        let transposing = unsafe measuredBlocks(kernels)
        let one = unsafe measuredSparse(kernels, .oneByFour)
        let four = unsafe measuredSparse(kernels, .fourByFour)
        var table = CostTable(
            dense: dense, oneByFour: one, fourByFour: four, toBlock: transposing.to,
            fromBlock: transposing.from, toPlanes: 0)
        for block in [SparseInt8.Block.oneByFour, .fourByFour] {
            let large = unsafe measuredPlanar(kernels, block, side: 28, images: 1, table)
            // So small that filling up its rows does not pay.
            let small = unsafe measuredPlanar(kernels, block, side: 7, images: 1, table)
            var costs = table.sparse(block)
            costs.planarEntry = large.entry
            costs.splitEntry = block == .oneByFour ? small.entry : large.entry
            if block == .oneByFour {
                table.oneByFour = costs
                table.toPlanes = large.planes
            } else {
                table.fourByFour = costs
            }
        }
        return table
    }

    private static func measuredDense(_ kernels: esp_kernels) -> Dense {
        let (width, tileRows) =
            switch unsafe kernels.isa {
            case ESP_ISA_SCALAR: (1, [1])
            case ESP_ISA_AVX2: (32, [2, 1])
            default: (64, [6, 4, 2, 1])
            }
        let outputs = 512
        let panels = Double(outputs / width)
        func time(_ rows: Int, _ inputs: Int) -> Double {
            time(.linear(rows: rows, channels: inputs), outputs)
        }
        func time(_ window: esp_window, _ outputs: Int) -> Double {
            let (rows, inputs) = (Int(window.width), Int(window.channels))
            let layer = SampleLayer(outputs: outputs, inputs: inputs, rows: rows)
            let packed = DenseInt8(
                layer.weights, outputs: outputs, taps: 1, channels: inputs, inputZeroPoint: 0,
                layer.table)
            let y = PackedBuffer(count: rows * outputs)
            return unsafe layer.codes.withUnsafeBufferPointer { x in
                unsafe y.writing { y in
                    guard let x = x.baseAddress else { return 0 }
                    return shortest {
                        unsafe packed.multiply(
                            kernels, window, image: x, first: 0,
                            count: rows, kind: ESP_OUT_U8, into: y, pitch: outputs)
                    }
                }
            }
        }
        let (most, steps) = (tileRows[0], 384 / 4)
        let (short, long) = (time(most, 96), time(most, 384))
        let step = max((long - short) / panels / Double(steps - 24), 0)
        let result = max((long / panels - Double(steps) * step) / Double(most), 0)
        var dense = Dense(
            width: width, tileRows: tileRows,
            steps: tileRows.map { rows in
                rows == most
                    ? step
                    : max(time(rows, 384) / panels - Double(rows) * result, 0) / Double(steps)
            }, result: result, narrow: [1, 1], tap: 0)
        if width > 16 {
            let whole = time(.linear(rows: 6, channels: 384), 64)
            dense.narrow = [16, 32].map {
                let part = time(.linear(rows: 6, channels: 384), $0)
                return min(part * Double(64 / width) / whole, 1)
            }
        }
        // What a convolution takes beside its products.
        let products = Double(64 / width) * (196 / Double(most) * 144 * step + 196 * result)
        dense.tap = unsafe max(convolutionTime(kernels) - products, 0) / (196 * 3)
        return dense
    }

    private static func convolutionTime(_ kernels: esp_kernels) -> Double {
        let window = esp_window.square(14, channels: 64)
        guard let geometry = DenseConvolution(window) else { fatalError("a window of rows") }
        let sample = SampleLayer(outputs: 64, inputs: 9 * 64, rows: 14 * 14)
        let packed = DenseInt8(
            sample.weights, outputs: 64, taps: geometry.taps, channels: geometry.channels,
            inputZeroPoint: 0, sample.table)
        let y = PackedBuffer(count: 14 * 14 * 64)
        let scratch = PackedBuffer(count: geometry.scratchBytes)
        return unsafe sample.codes.withUnsafeBufferPointer { x in
            unsafe y.writing { y in
                unsafe scratch.writing { scratch in
                    guard let x = x.baseAddress else { return 0 }
                    return shortest {
                        unsafe geometry.multiply(
                            kernels, packed, image: x, scratch: codes(scratch), kind: ESP_OUT_U8,
                            into: y, pitch: 64)
                    }
                }
            }
        }
    }

    private static func measuredSparse(_ kernels: esp_kernels, _ block: SparseInt8.Block) -> Sparse
    {
        let outputs = 512
        func time(
            _ inputs: Int, _ density: Double, tokens: Int = 64
        ) -> (entries: Double, time: Double) {
            let layer = SampleLayer(
                outputs: outputs, inputs: inputs, rows: 0, block: block, density: density)
            let packed = SparseInt8(
                layer.weights, outputs: outputs, channels: inputs, block: block, layer.table)
            let x = PackedBuffer(repeating: 3, count: inputs * 64)
            let (y, scratch) = (
                PackedBuffer(count: outputs * 64), PackedBuffer(count: packed.scratchBytes)
            )
            let time = unsafe x.writing { x in
                unsafe y.writing { y in
                    unsafe scratch.writing { scratch in
                        let (x, y, scratch) = unsafe (codes(x), codes(y), codes(scratch))
                        return shortest {
                            unsafe packed.multiply(
                                kernels, x, tokens: tokens, scratch: scratch, into: y)
                        }
                    }
                }
            }
            return (Double(packed.liveBlocks), time)
        }
        let (sparse, dense) = (time(384, 0.05), time(384, 0.2))
        let (farSparse, farDense) = (time(1024, 0.05), time(1024, 0.2))
        let entry = slope(sparse, dense)
        return Sparse(
            entry: entry, farEntry: slope(farSparse, farDense), planarEntry: entry,
            splitEntry: entry,
            result: max(sparse.time - sparse.entries * entry, 0) / Double(outputs),
            narrow: [16, 32].map {
                let few = time(384, 0.1, tokens: $0).time
                return min(few / time(384, 0.1).time, 1)
            })
    }

    private static func measuredBlocks(_ kernels: esp_kernels) -> (to: Double, from: Double) {
        let inputs = 512
        let (rows, block) = (
            PackedBuffer(count: inputs * 64), PackedBuffer(count: inputs * 64)
        )
        return unsafe rows.writing { rows in
            unsafe block.writing { block in
                let (rows, block) = unsafe (codes(rows), codes(block))
                let to = shortest { unsafe kernels.u8_to_block(rows, inputs, 64, inputs, block) }
                let from = shortest {
                    unsafe kernels.u8_from_block(block, 64, inputs, rows, inputs)
                }
                return (to / Double(inputs / 4), from / Double(inputs / 4))
            }
        }
    }

    private static func measuredPlanar(
        _ kernels: esp_kernels, _ block: SparseInt8.Block, side: Int, images: Int,
        _ table: CostTable
    ) -> (entry: Double, planes: Double) {
        let channels = 64
        let window = esp_window.square(side, channels: channels)
        guard let geometry = PlanarConvolution(window, block: block, images: images) else {
            fatalError("a window of stride 1")
        }
        func time(_ density: Double) -> (entries: Double, time: Double) {
            let layer = SampleLayer(
                outputs: channels, inputs: 9 * channels, rows: 0, block: block, density: density)
            let packed = SparseInt8(
                layer.weights, outputs: channels, taps: 9, channels: channels, block: block,
                layer.table)
            let pixels = images * side * side
            let (x, y) = (
                PackedBuffer(repeating: 3, count: pixels * channels),
                PackedBuffer(count: pixels * channels)
            )
            let scratch = PackedBuffer(count: geometry.scratchBytes(for: packed))
            let time = unsafe x.writing { x in
                unsafe y.writing { y in
                    unsafe scratch.writing { scratch in
                        let (x, y, scratch) = unsafe (codes(x), codes(y), codes(scratch))
                        return shortest {
                            unsafe geometry.multiply(
                                kernels, packed, image: x, scratch: scratch, into: y,
                                pitch: channels)
                        }
                    }
                }
            }
            return (Double(packed.liveBlocks * geometry.blocks), time)
        }
        let (sparse, dense) = (time(0.05), time(0.2))
        let entry = slope(sparse, dense)
        let results = Double(geometry.blocks * channels) * table.sparse(block).result
        let back = Double(4 * geometry.resultParts)
        let rest = sparse.time - sparse.entries * entry - results - back * table.fromBlock
        return (entry, max(rest, 0) / Double(geometry.planeWords))
    }
}

extension esp_window {
    /// 3x3 over an image that keeps its size.
    fileprivate static func square(_ side: Int, channels: Int) -> esp_window {
        var window = linear(rows: side, channels: channels)
        (window.height, window.out_height) = (Int32(side), Int32(side))
        (window.kernel_height, window.kernel_width) = (3, 3)
        (window.pad_top, window.pad_left) = (1, 1)
        return window
    }
}

/// Weights, codes and a table of a layer that is only timed.
private struct SampleLayer {
    let weights: [Int8]
    let codes: [UInt8]
    let table: Requantization

    init(
        outputs: Int, inputs: Int, rows: Int, block: SparseInt8.Block = .oneByFour,
        density: Double = 1
    ) {
        let height = block == .oneByFour ? 1 : 4
        let columns = inputs / 4
        let count = outputs / height * columns
        let live = Set(
            RandomStream(seed: 3).permutation(count).prefix(Int(Double(count) * density)))
        weights = (0..<outputs * inputs).map { index in
            let (output, input) = (index / inputs, index % inputs)
            return live.contains(output / height * columns + input / 4) ? 5 : 0
        }
        codes = [UInt8](repeating: 3, count: rows * inputs)
        table = Requantization(
            bias: [Int32](repeating: 100, count: outputs),
            scale: [Float](repeating: 1e-4, count: outputs), zeroPoint: 30)
    }
}

private func codes(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt8> {
    unsafe pointer.assumingMemoryBound(to: UInt8.self)
}

/// Nanoseconds of an entry.
private func slope(
    _ few: (entries: Double, time: Double), _ many: (entries: Double, time: Double)
) -> Double {
    max((many.time - few.time) / (many.entries - few.entries), 0)
}

/// The shortest of many calls, in nanoseconds: what the machine does when it is left alone. Short ones go together.
private func shortest(_ body: () -> Void) -> Double {
    let clock = ContinuousClock()
    func time(_ count: Int) -> Double {
        let start = clock.now
        for _ in 0..<count { body() }
        let elapsed = (clock.now - start).components
        return Double(elapsed.seconds) * 1e9 + Double(elapsed.attoseconds) * 1e-9
    }
    _ = time(1)
    let count = max(Int(20_000 / max(time(1), 1)), 1)
    var (best, total) = (Double.infinity, 0.0)
    while total < 60e6 {
        let elapsed = time(count)
        best = min(best, elapsed / Double(count))
        total += elapsed
    }
    return best
}
