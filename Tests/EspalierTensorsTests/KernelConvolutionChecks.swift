import CEspalierKernels
import EspalierTensors
import Testing

/// Convolutions of all kinds over padded images: (rows, columns, channels, kernel, stride, dilation, outputs).
private let convolutions: [(esp_taps, isRun: Bool)] = [
    (1, 1, 1, (1, 1), 1, 1, 1), (3, 14, 1, (3, 3), 1, 1, 32), (2, 31, 3, (3, 3), 1, 1, 16),
    (5, 13, 17, (3, 2), 2, 1, 33), (4, 7, 16, (1, 1), 1, 1, 48), (2, 29, 5, (2, 3), 1, 2, 64),
    (3, 8, 32, (3, 3), 1, 1, 65), (1, 100, 7, (1, 1), 1, 1, 31), (6, 2, 2, (5, 4), 3, 2, 7),
    (2, 3, 4, (0, 3), 1, 1, 20), (0, 5, 4, (3, 3), 1, 1, 20), (4, 16, 15, (3, 3), 1, 1, 15),
].flatMap { rows, columns, channels, kernel, stride, dilation, outputs in
    [true, false].map { isRun in
        let isRun = isRun && dilation == 1
        let width = (columns - 1) * stride + (kernel.1 - 1) * dilation + 1
        return (
            esp_taps(
                rows: rows, columns: columns, down: stride * width * channels,
                right: stride * channels, taps_y: kernel.0, taps_x: isRun ? 1 : kernel.1,
                tap_down: dilation * width * channels, tap_right: dilation * channels,
                depth: isRun ? kernel.1 * channels : channels,
                out_down: columns * (outputs + 3) + 5, out_right: outputs + 3, outputs: outputs),
            isRun
        )
    }
}

extension esp_taps {
    fileprivate var terms: Int { taps_y * taps_x * depth }
    fileprivate var operandCount: Int {
        max(rows - 1, 0) * down + (columns - 1) * right + max(taps_y - 1, 0) * tap_down
            + (taps_x - 1) * tap_right + depth
    }
    fileprivate var resultCount: Int {
        max(rows - 1, 0) * out_down + (columns - 1) * out_right + outputs
    }
    fileprivate var weightCount: Int { terms * ((outputs + 15) / 16 * 16) }
    fileprivate var text: String {
        "\(rows)x\(columns), \(taps_y)x\(taps_x) runs of \(depth) to \(outputs)"
    }
    /// The same as a depthwise convolution.
    fileprivate var depthwise: esp_taps {
        var t = self
        (t.right, t.depth) = (outputs + 1, 1)
        (t.tap_right, t.down) = (2 * outputs + 1, columns * t.right + 3)
        t.tap_down = t.down
        return t
    }
    fileprivate var depthwiseCount: Int {
        max(rows - 1, 0) * down + (columns - 1) * right + max(taps_y - 1, 0) * tap_down
            + (taps_x - 1) * tap_right + outputs
    }
}

/// A result without what stands between its pixels, which must be left alone.
private func checked(_ y: Guarded<Float>, _ t: esp_taps) -> [Float] {
    var values = y.values
    for row in 0..<t.rows {
        for column in 0..<t.columns {
            for output in 0..<t.outputs {
                let at = row * t.out_down + column * t.out_right + output
                // What was written is looked at by the caller.
                values[at] = -7
            }
        }
    }
    #expect(values.allSatisfy { $0 == -7 }, "between pixels of \(t.text)")
    return y.values
}

/// Rows of tiles: (tiles, channels, rows, columns of the last).
private let tileRows: [(tiles: Int, channels: Int, rows: Int, columns: Int)] = [
    (1, 1, 2, 2), (1, 16, 1, 1), (3, 17, 2, 5), (7, 32, 2, 14), (2, 31, 1, 4), (4, 5, 2, 7),
]

private func tiles(_ row: (tiles: Int, channels: Int, rows: Int, columns: Int)) -> esp_tiles {
    esp_tiles(
        tiles: row.tiles, channels: row.channels,
        down: (2 * row.tiles + 2) * (row.channels + 1) + 1,
        right: row.channels + 1, plane: row.tiles * row.channels + 3, rows: row.rows,
        columns: row.columns)
}

private let winogradChecks: [String: KernelCheck] = [
    "f32_winograd_operands": {
        for row in tileRows {
            let t = tiles(row)
            let x = numbers(3 * t.down + (2 * t.tiles + 1) * t.right + t.channels)
            let count = 15 * t.plane + t.tiles * t.channels
            unsafe expectTwins(
                "Winograd operands \(row)", bounds: .init(repeating: 2e-6, count: count)
            ) { c in
                let (x, v) = (Guarded(x), Guarded<Float>(7, count: count))
                unsafe withUnsafePointer(to: t) {
                    unsafe c.f32_winograd_operands($0, x.pointer, v.pointer)
                }
                return v.values
            }
        }
    },
    "f32_winograd_results": {
        for row in tileRows {
            for (hasBias, relu) in [(true, false), (false, true), (true, true)] {
                let t = tiles(row)
                let m = numbers(15 * t.plane + t.tiles * t.channels)
                let bias = numbers(t.channels, 1)
                let count = (t.rows - 1) * t.down + (t.columns - 1) * t.right + t.channels
                unsafe expectTwins(
                    "Winograd results \(row)", bounds: .init(repeating: 1e-5, count: count)
                ) { c in
                    let (m, bias) = (Guarded(m), Guarded(bias))
                    let y = Guarded<Float>(7, count: count)
                    unsafe withUnsafePointer(to: t) {
                        unsafe c.f32_winograd_results(
                            $0, m.pointer, hasBias ? UnsafePointer(bias.pointer) : nil, relu,
                            y.pointer)
                    }
                    return y.values
                }
            }
        }
    },
    "f32_winograd_upstream": {
        for row in tileRows {
            let t = tiles(row)
            let dy = numbers((t.rows - 1) * t.down + (t.columns - 1) * t.right + t.channels)
            let count = 15 * t.plane + t.tiles * t.channels
            unsafe expectTwins(
                "Winograd upstream \(row)", bounds: .init(repeating: 2e-6, count: count)
            ) { c in
                let (dy, u) = (Guarded(dy), Guarded<Float>(7, count: count))
                unsafe withUnsafePointer(to: t) {
                    unsafe c.f32_winograd_upstream($0, dy.pointer, u.pointer)
                }
                return u.values
            }
        }
    },
    "f32_winograd_weights": {
        for n in [1, 16, 17, 48, 101] {
            let g = numbers(9 * n)
            unsafe expectTwins(
                "Winograd weights \(n)", bounds: .init(repeating: 3e-6, count: 15 * (n + 2) + n)
            ) { c in
                let (g, u) = (Guarded(g), Guarded<Float>(7, count: 15 * (n + 2) + n))
                unsafe c.f32_winograd_weights(g.pointer, n, u.pointer, n + 2)
                return u.values
            }
        }
    },
    "f32_winograd_weights_gradient": {
        for n in [1, 16, 17, 48, 101] {
            let m = numbers(16 * n)
            unsafe expectTwins(
                "Winograd weights' gradient \(n)", bounds: .init(repeating: 5e-6, count: 9 * n)
            ) { c in
                let (m, dg) = (Guarded(m), Guarded<Float>(7, count: 9 * n))
                unsafe c.f32_winograd_weights_gradient(m.pointer, n, dg.pointer)
                return dg.values
            }
        }
    },
]

private let normChecks: [String: KernelCheck] = [
    "f32_column_moments": {
        for (rows, columns) in kernelMatrices where rows > 0 {
            let x = numbers(rows * columns)
            let bound = 4 * Double(rows) * floatEpsilon * 10
            unsafe expectTwins(
                "column moments \(rows)x\(columns)",
                bounds: .init(repeating: bound, count: 2 * columns)
            ) { c in
                let (x, y) = (Guarded(x), Guarded<Float>(7, count: 2 * columns))
                unsafe c.f32_column_moments(
                    x.pointer, rows, columns, y.pointer, y.pointer + columns)
                return y.values
            }
        }
    },
    "f32_column_affine_relu": {
        for (rows, columns) in kernelMatrices {
            for hasMore in [false, true] {
                let x = numbers(rows * columns)
                unsafe expectTwins("column affine with ReLU \(rows)x\(columns)") { c in
                    let (x, scale) = (Guarded(x), Guarded(numbers(columns, 1)))
                    let (shift, y) = (
                        Guarded(numbers(columns, 2)), Guarded<Float>(7, count: rows * columns)
                    )
                    let more = Guarded(numbers(rows * columns, 3))
                    unsafe c.f32_column_affine_relu(
                        x.pointer, scale.pointer, shift.pointer,
                        hasMore ? UnsafePointer(more.pointer) : nil, y.pointer, rows, columns)
                    return y.values
                }
            }
        }
    },
    "f32_norm_sums": {
        for (rows, columns) in kernelMatrices {
            for isMasked in [false, true] {
                unsafe expectTwins("norm sums \(rows)x\(columns)") { c in
                    let (dy, x) = (
                        Guarded(numbers(rows * columns)), Guarded(numbers(rows * columns, 1))
                    )
                    let rest = (2..<5).map { Guarded(numbers(columns, $0)) }
                    let sums = Guarded(numbers(2 * columns, 5))
                    unsafe c.f32_norm_sums(
                        dy.pointer, x.pointer, rest[0].pointer,
                        isMasked ? UnsafePointer(rest[1].pointer) : nil,
                        isMasked ? UnsafePointer(rest[2].pointer) : nil, rows, columns,
                        sums.pointer, sums.pointer + columns)
                    return sums.values
                }
            }
        }
    },
    "f32_norm_gradient": {
        for (rows, columns) in kernelMatrices {
            for isMasked in [false, true] {
                unsafe expectTwins("norm gradient \(rows)x\(columns)") { c in
                    let (dy, x) = (
                        Guarded(numbers(rows * columns)), Guarded(numbers(rows * columns, 1))
                    )
                    let rest = (2..<6).map { Guarded(numbers(columns, $0)) }
                    let dx = Guarded<Float>(7, count: rows * columns)
                    unsafe c.f32_norm_gradient(
                        dy.pointer, x.pointer, rest[0].pointer,
                        isMasked ? UnsafePointer(rest[1].pointer) : nil, rest[2].pointer,
                        rest[3].pointer, dx.pointer, rows, columns)
                    return dx.values
                }
            }
        }
    },
]

/// Pooled rows: (windows, channels).
private let pooledRows = [(1, 1), (3, 16), (2, 17), (14, 32), (5, 33), (0, 4)]

private let poolChecks: [String: KernelCheck] = [
    "f32_relu_pool2": {
        for (windows, channels) in pooledRows {
            // Whole numbers have ties, and zeros.
            let down = 2 * windows * channels + 3
            var x = RandomStream(seed: 9).integers(down + 2 * windows * channels, below: 5)
                .map { Float($0) - 3 }
            if x.count > 40 { x[37] = .nan }
            let image = x
            let reference = unsafe codes(kernels(.scalar), image, down, windows, channels).which
            unsafe expectTwins("ReLU with pooling \(windows)x\(channels)") { c in
                let (y, which) = unsafe codes(c, image, down, windows, channels)
                #expect(which == reference)
                return y
            }
        }
    },
    "f32_relu_pool2_gradient": {
        for (windows, channels) in pooledRows {
            let down = 2 * windows * channels + 3
            let which = RandomStream(seed: 3).integers(windows * channels, below: 5)
                .map { UInt8($0) }
            let dy = numbers(windows * channels)
            unsafe expectTwins("gradient of ReLU with pooling \(windows)x\(channels)") { c in
                let (which, dy) = (Guarded(which), Guarded(dy))
                let dx = Guarded<Float>(7, count: down + 2 * windows * channels)
                unsafe c.f32_relu_pool2_gradient(
                    which.pointer, dy.pointer, down, windows, channels, dx.pointer)
                return dx.values
            }
        }
    },
]

private func codes(
    _ c: esp_kernels, _ image: [Float], _ down: Int, _ windows: Int, _ channels: Int
) -> (y: [Float], which: [UInt8]) {
    let (x, y) = (Guarded(image), Guarded<Float>(7, count: windows * channels))
    let which = Guarded<UInt8>(7, count: windows * channels)
    unsafe c.f32_relu_pool2(x.pointer, down, windows, channels, y.pointer, which.pointer)
    return (y.values, which.values)
}

private let tapChecks: [String: KernelCheck] = [
    "f32_taps": {
        for (t, _) in convolutions {
            for (hasBias, relu) in [(true, false), (false, true)] {
                let (x, weights) = (numbers(t.operandCount), numbers(t.weightCount, 1))
                let bias = numbers(t.outputs, 2)
                unsafe expectTwins("taps \(t.text)") { c in
                    let (x, weights, bias) = (Guarded(x), Guarded(weights), Guarded(bias))
                    let y = Guarded<Float>(-7, count: t.rows == 0 ? 0 : t.resultCount)
                    unsafe withUnsafePointer(to: t) {
                        unsafe c.f32_taps(
                            $0, x.pointer, weights.pointer,
                            hasBias ? UnsafePointer(bias.pointer) : nil, relu, y.pointer)
                    }
                    return checked(y, t)
                }
            }
        }
    },
    "f32_taps_gradient": {
        for (t, _) in convolutions {
            let (x, dy) = (numbers(t.operandCount), numbers(t.resultCount, 1))
            let dw = numbers(t.terms * t.outputs, 2)
            unsafe expectTwins("taps' gradient \(t.text)") { c in
                let (x, dy, dw) = (Guarded(x), Guarded(dy), Guarded(dw))
                unsafe withUnsafePointer(to: t) {
                    unsafe c.f32_taps_gradient($0, x.pointer, dy.pointer, dw.pointer)
                }
                return dw.values
            }
        }
    },
    "f32_depthwise": {
        for (t, isRun) in convolutions where !isRun {
            let t = t.depthwise
            for (hasBias, relu) in [(true, false), (false, true)] {
                let (x, weights) = (
                    numbers(t.depthwiseCount), numbers(t.terms * t.outputs, 1)
                )
                let bias = numbers(t.outputs, 2)
                unsafe expectTwins("depthwise \(t.text)") { c in
                    let (x, weights, bias) = (Guarded(x), Guarded(weights), Guarded(bias))
                    let y = Guarded<Float>(-7, count: t.rows == 0 ? 0 : t.resultCount)
                    unsafe withUnsafePointer(to: t) {
                        unsafe c.f32_depthwise(
                            $0, x.pointer, weights.pointer,
                            hasBias ? UnsafePointer(bias.pointer) : nil, relu, y.pointer)
                    }
                    return checked(y, t)
                }
            }
        }
    },
    "f32_depthwise_gradient": {
        for (t, isRun) in convolutions where !isRun {
            let t = t.depthwise
            let (x, dy) = (numbers(t.depthwiseCount), numbers(t.resultCount, 1))
            let dw = numbers(t.terms * t.outputs, 2)
            unsafe expectTwins("depthwise gradient \(t.text)") { c in
                let (x, dy, dw) = (Guarded(x), Guarded(dy), Guarded(dw))
                unsafe withUnsafePointer(to: t) {
                    unsafe c.f32_depthwise_gradient($0, x.pointer, dy.pointer, dw.pointer)
                }
                return dw.values
            }
        }
    },
]

let convolutionKernelChecks: [String: KernelCheck] = [
    tapChecks, winogradChecks, poolChecks, normChecks,
].reduce(into: [:]) { all, part in all.merge(part) { first, _ in first } }
