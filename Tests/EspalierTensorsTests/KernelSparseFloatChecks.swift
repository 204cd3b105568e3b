import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// An order as C reads it, with the arrays behind it.
private struct Order {
    var lengths: [UInt32] = []
    var groups: [UInt32] = []
    var rows: [UInt16] = []
    var indices: [UInt16] = []
    var values: [Float] = []
    let (outputs, inputs, span): (Int, Int, Int)

    /// Random groups: rows are dealt out once in each span; `width` indices an entry.
    init(outputs: Int, inputs: Int, span: Int, width: Int, seed: UInt64) {
        (self.outputs, self.inputs, self.span) = (outputs, inputs, span)
        let random = RandomStream(seed: seed)
        for (s, first) in stride(from: 0, to: inputs, by: span).enumerated() {
            let columns = min(span, inputs - first)
            let drawn = random.child(UInt64(s)).uniform(outputs * 64 + 64)
            for group in 0..<(outputs + 3) / 4 {
                let length = min(Int(drawn[group] * 14), columns)
                lengths.append(UInt32(length))
                for i in 0..<4 {
                    let row = 4 * group + i
                    // Fours are neighbours; single rows come in any order.
                    let place = width == 1 ? row : (row * 7 + s) % outputs
                    let isRow = row < outputs && (width == 1 || outputs % 7 != 0)
                    rows.append(isRow ? UInt16(place) : UInt16(ESP_NO_ROW))
                }
                for j in 0..<length {
                    for i in 0..<width {
                        let at = (j + Int(drawn[outputs + 4 * group + i] * 50)) % columns
                        indices.append(UInt16(first + at))
                    }
                }
            }
            groups.append(UInt32((outputs + 3) / 4))
        }
        values = random.child(99).normal(lengths.reduce(0) { $0 + 4 * Int($1) })
    }

    func withC<Result>(_ body: (UnsafePointer<esp_f32_sparse>) -> Result) -> Result {
        let (lengths, groups) = (Guarded(lengths), Guarded(groups))
        let (rows, indices, values) = (Guarded(rows), Guarded(indices), Guarded(values))
        var order = unsafe esp_f32_sparse(
            outputs: outputs, inputs: inputs, spans: self.groups.count, span: span,
            groups: groups.pointer, lengths: lengths.pointer, rows: rows.pointer,
            indices: indices.pointer, values: values.pointer)
        defer { withExtendedLifetime((lengths, groups, rows, indices, values)) {} }
        return unsafe body(&order)
    }
}

private let orders: [(outputs: Int, inputs: Int, span: Int)] = [
    (1, 1, 1), (3, 5, 5), (8, 40, 16), (29, 61, 17), (40, 33, 64),
]

private typealias Multiply = (
    UnsafePointer<esp_f32_sparse>, UnsafePointer<Float>, Int, UnsafePointer<Float>?, Bool,
    esp_epilogue, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>?
) -> Void

/// `isSpread`: from rows to columns.
private func checkMultiply(
    _ name: String, width: Int, isSpread: Bool = false, _ kernel: (esp_kernels) -> Multiply
) {
    for (index, shape) in orders.enumerated() {
        let order = Order(
            outputs: shape.outputs, inputs: shape.inputs, span: shape.span, width: width,
            seed: UInt64(index))
        let (from, to) = isSpread ? (shape.outputs, shape.inputs) : (shape.inputs, shape.outputs)
        for blocks in [0, 1, 3] {
            for accumulates in [false, true] {
                for epilogue in [ESP_PLAIN, ESP_THEN_RELU, ESP_THEN_GELU] {
                    let (x, bias) = (numbers(64 * blocks * from), numbers(to, 1))
                    let before = numbers(64 * blocks * to, 2)
                    let count = before.count
                    // Rows meet every entry at most, each of them a few units in size.
                    let bounds = [Double](
                        repeating: floatEpsilon * 40
                            * (8 + 3 * Double(shape.outputs + shape.inputs)),
                        count: 2 * count)
                    unsafe expectTwins("\(name) \(shape), \(blocks) blocks", bounds: bounds) { c in
                        let (source, shift) = (Guarded(x), Guarded(bias))
                        let (z, y) = (Guarded(before), Guarded<Float>(0, count: count))
                        unsafe order.withC {
                            unsafe kernel(c)(
                                $0, source.pointer, blocks, index % 2 == 0 ? shift.pointer : nil,
                                accumulates, epilogue, z.pointer,
                                epilogue == ESP_THEN_GELU ? y.pointer : nil)
                        }
                        return z.values + y.values
                    }
                }
            }
        }
    }
}

private typealias Gradient = (
    UnsafePointer<esp_f32_sparse>, UnsafePointer<Float>, UnsafePointer<Float>, Int, Int,
    UnsafeMutablePointer<Float>
) -> Void

private func checkGradient(_ name: String, width: Int, _ kernel: (esp_kernels) -> Gradient) {
    for (index, shape) in orders.enumerated() {
        let order = Order(
            outputs: shape.outputs, inputs: shape.inputs, span: shape.span, width: width,
            seed: UInt64(index))
        for blocks in [0, 1, 2, 3, 5] {
            let x = numbers(64 * blocks * shape.inputs)
            let dy = numbers(64 * blocks * shape.outputs, 1)
            let before = numbers(order.values.count, 2)
            let bounds = [Double](
                repeating: floatEpsilon * 64 * (4 + Double(blocks) * 16), count: before.count)
            unsafe expectTwins("\(name) \(shape), \(blocks) blocks", bounds: bounds) { c in
                let (source, upstream) = (Guarded(x), Guarded(dy))
                let gradient = Guarded(before)
                unsafe order.withC {
                    unsafe kernel(c)(
                        $0, source.pointer, upstream.pointer, blocks, blocks % 3, gradient.pointer)
                }
                return gradient.values
            }
        }
    }
}

let sparseFloatKernelChecks: [String: KernelCheck] = [
    "f32_sparse_multiply": {
        unsafe checkMultiply("multiply", width: 4) { unsafe $0.f32_sparse_multiply }
    },
    "f32_fours_multiply": {
        unsafe checkMultiply("fours", width: 1) { unsafe $0.f32_fours_multiply }
    },
    "f32_fours_spread": {
        unsafe checkMultiply("spread", width: 1, isSpread: true) { unsafe $0.f32_fours_spread }
    },
    "f32_sparse_gradient": {
        unsafe checkGradient("gradient", width: 4) { unsafe $0.f32_sparse_gradient }
    },
    "f32_fours_gradient": {
        unsafe checkGradient("fours' gradient", width: 1) { unsafe $0.f32_fours_gradient }
    },
    "f32_permute": {
        for count in kernelSizes {
            let x = numbers(count)
            let index = (0..<count).map { $0 % 5 == 3 ? -1 : Int32(($0 * 17) % count) }
            unsafe expectTwins("permutation of \(count)") { c in
                let (source, places) = (Guarded(x), Guarded(index))
                let y = Guarded<Float>(7, count: count)
                unsafe c.f32_permute(places.pointer, source.pointer, y.pointer, count)
                return y.values
            }
        }
    },
    "f32_to_blocks": {
        for (tokens, columns) in kernelMatrices + [(63, 5), (64, 16), (130, 37)] {
            let x = numbers(tokens * columns)
            unsafe expectTwins("blocks of \(tokens) x \(columns)") { c in
                let source = Guarded(x)
                let y = Guarded<Float>(7, count: (tokens + 63) / 64 * 64 * columns)
                unsafe c.f32_to_blocks(source.pointer, tokens, columns, y.pointer)
                return y.values
            }
        }
    },
    "f32_from_blocks": {
        for (tokens, columns) in kernelMatrices + [(63, 5), (64, 16), (130, 37)] {
            let x = numbers((tokens + 63) / 64 * 64 * columns)
            unsafe expectTwins("rows of \(tokens) x \(columns)") { c in
                let source = Guarded(x)
                let y = Guarded<Float>(7, count: tokens * columns)
                unsafe c.f32_from_blocks(source.pointer, tokens, columns, y.pointer)
                return y.values
            }
        }
    },
    "f32_block_norm": {
        for columns in [1, 5, 16, 61] {
            // Scaled, and shifted; the normal, and y.
            for (isCentred, isAdded, affine, results) in [
                (true, true, (true, true), (true, true)),
                (true, false, (false, false), (true, false)),
                (false, true, (false, false), (false, true)),
                (false, false, (true, false), (true, true)),
                (true, true, (true, true), (false, true)),
                (true, true, (true, false), (true, false)),
            ] {
                let n = 2 * 64 * columns
                let (x, more) = (numbers(n), numbers(n, 1))
                let (scale, shift) = (numbers(columns, 2), numbers(columns, 3))
                let bounds = [Double](repeating: floatEpsilon * 1000, count: 2 * n + 128)
                unsafe expectTwins("norm of blocks of \(columns) columns", bounds: bounds) { c in
                    let (a, b, s, t) = (Guarded(x), Guarded(more), Guarded(scale), Guarded(shift))
                    let (normal, y) = (Guarded<Float>(0, count: n), Guarded<Float>(0, count: n))
                    let r = Guarded<Float>(0, count: 128)
                    unsafe c.f32_block_norm(
                        isCentred, 0.1, a.pointer, isAdded ? b.pointer : nil,
                        affine.0 ? s.pointer : nil, affine.1 ? t.pointer : nil,
                        results.0 ? normal.pointer : nil, r.pointer, results.1 ? y.pointer : nil, 2,
                        columns)
                    return normal.values + y.values + r.values
                }
            }
        }
    },
    "f32_block_norm_gradient": {
        for columns in [1, 5, 16, 61] {
            for (isCentred, isScaled, needs) in [
                (true, true, (true, true, true)), (true, false, (true, false, false)),
                (false, false, (true, true, false)), (false, true, (false, true, true)),
                (true, true, (true, false, true)),
            ] {
                let n = 2 * 64 * columns
                let (normal, dy, before) = (numbers(n), numbers(n, 1), numbers(2 * columns, 2))
                let (scale, r) = (numbers(columns, 3), numbers(128, 4).map { abs($0) })
                let bounds = [Double](repeating: floatEpsilon * 4000, count: n + 2 * columns)
                unsafe expectTwins("slope of blocks of \(columns) columns", bounds: bounds) { c in
                    let (a, b, s, t) = (Guarded(normal), Guarded(dy), Guarded(scale), Guarded(r))
                    let (dx, sums) = (Guarded<Float>(0, count: n), Guarded(before))
                    unsafe c.f32_block_norm_gradient(
                        isCentred, a.pointer, t.pointer, isScaled ? s.pointer : nil, b.pointer,
                        needs.0 ? dx.pointer : nil, needs.1 ? sums.pointer : nil,
                        needs.2 ? sums.pointer + columns : nil, 2, columns)
                    return dx.values + sums.values
                }
            }
        }
    },
    "f32_block_sums": {
        for columns in [1, 5, 16, 61] {
            for (blocks, last) in [(0, 0), (1, 1), (1, 64), (3, 17)] {
                let n = blocks * 64 * columns
                let (a, b, before) = (numbers(n), numbers(n, 1), numbers(2 * columns, 2))
                let bounds = [Double](repeating: floatEpsilon * 4000, count: 2 * columns)
                unsafe expectTwins("sums of \(blocks) x \(columns)", bounds: bounds) { c in
                    let (x, y, sums) = (Guarded(a), Guarded(b), Guarded(before))
                    unsafe c.f32_block_sums(
                        x.pointer, y.pointer, blocks, columns, last, sums.pointer,
                        sums.pointer + columns)
                    return sums.values
                }
            }
        }
    },
]
