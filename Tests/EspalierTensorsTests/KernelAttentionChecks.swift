import CEspalierKernels
import EspalierTensors
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Queries, keys, size of a key and of a value: ones, primes, more than a block of each, sizes of usual heads.
private let attentionShapes = [
    (1, 1, 1, 1), (1, 7, 5, 3), (13, 1, 8, 8), (17, 33, 5, 7), (64, 64, 32, 32),
    (53, 131, 17, 16), (97, 70, 11, 40), (7, 5, 48, 80), (50, 66, 128, 96),
]

/// The same in blocks of 64 tokens.
private let blockShapes = [
    (64, 64, 1, 1), (64, 128, 5, 3), (128, 64, 8, 8), (128, 128, 32, 32), (192, 128, 17, 16),
    (64, 192, 11, 40), (0, 64, 3, 2), (64, 0, 2, 3),
]

/// One head between others: rows, or blocks, lie further apart than they are long.
private struct Head {
    let shape: esp_attention
    let isBlocked: Bool
    let q, k, v, dy: [Float]
    let mask: [Float]?

    init(
        _ extents: (Int, Int, Int, Int), isBlocked: Bool, causal: Bool, masked: Bool, halves: Bool
    ) {
        let (queries, keys, depth, values) = extents
        self.isBlocked = isBlocked
        let step = isBlocked ? 64 : 1
        shape = esp_attention(
            queries: queries, keys: keys, depth: depth, value_depth: values,
            query_pitch: step * (depth + 3), key_pitch: step * 2 * depth,
            value_pitch: step * (values + 5), result_pitch: step * (values + 1), scale: 0.3,
            causal: causal, halves: halves)
        q = numbers(queries * (depth + 3))
        k = numbers(keys * 2 * depth, 1)
        v = numbers(keys * (values + 5), 2)
        dy = numbers(queries * (values + 1), 3)
        mask = masked ? numbers(keys, 4).map { $0 > 0 ? 1 : 0 } : nil
    }

    static func forEach(isBlocked: Bool = false, _ body: (Head, String) -> Void) {
        for extents in isBlocked ? blockShapes : attentionShapes {
            for (causal, masked) in [(false, false), (true, false), (false, true), (true, true)] {
                for halves in [false, true] {
                    let head = Head(
                        extents, isBlocked: isBlocked, causal: causal, masked: masked,
                        halves: halves)
                    body(
                        head, "attention \(extents) causal \(causal) mask \(masked) bf16 \(halves)")
                }
            }
        }
    }

    /// The result and the logarithms, rows without what lies between them.
    func forward(_ c: esp_kernels) -> (y: [Float], logSums: [Float]) {
        var shape = shape
        let (q, k, v, mask) = (Guarded(q), Guarded(k), Guarded(v), mask.map { Guarded($0) })
        let y = Guarded<Float>(7, count: dy.count)
        let logSums = Guarded<Float>(7, count: shape.queries)
        let size =
            isBlocked
            ? unsafe esp_attention_blocks_scratch(&shape) : unsafe esp_attention_scratch(&shape)
        let scratch = Guarded<Float>(7, count: size)
        let kernel = unsafe (isBlocked ? c.f32_attention_blocks : c.f32_attention)
        unsafe kernel(
            &shape, q.pointer, k.pointer, v.pointer, mask?.pointer, y.pointer, logSums.pointer,
            scratch.pointer)
        _ = scratch.values
        return (y.values, logSums.values)
    }

    func backward(_ c: esp_kernels, _ y: [Float], _ logSums: [Float]) -> [Float] {
        var shape = shape
        let (q, k, v, mask) = (Guarded(q), Guarded(k), Guarded(v), mask.map { Guarded($0) })
        let (y, logSums, dy) = (Guarded(y), Guarded(logSums), Guarded(dy))
        let dq = Guarded<Float>(7, count: self.q.count)
        let dk = Guarded<Float>(7, count: self.k.count)
        let dv = Guarded<Float>(7, count: self.v.count)
        let size =
            isBlocked
            ? unsafe esp_attention_blocks_scratch(&shape)
            : unsafe esp_attention_gradient_scratch(&shape)
        let scratch = Guarded<Float>(7, count: size)
        let kernel = unsafe (isBlocked ? c.f32_attention_blocks_gradient : c.f32_attention_gradient)
        unsafe kernel(
            &shape, q.pointer, k.pointer, v.pointer, mask?.pointer, y.pointer, logSums.pointer,
            dy.pointer, dq.pointer, dk.pointer, dv.pointer, scratch.pointer)
        _ = scratch.values
        return dq.values + dk.values + dv.values
    }
}

let attentionKernelChecks: [String: KernelCheck] = [
    "f32_attention": { checkAttention(isBlocked: false) },
    "f32_attention_blocks": { checkAttention(isBlocked: true) },
    "f32_attention_gradient": { checkAttentionGradient(isBlocked: false) },
    "f32_attention_blocks_gradient": { checkAttentionGradient(isBlocked: true) },
]

private func checkAttention(isBlocked: Bool) {
    Head.forEach(isBlocked: isBlocked) { head, name in
        // Rounded factors may fall on either side of a tie.
        let error = head.shape.halves ? 0.02 : 2e-5
        let bounds = [Double](repeating: error, count: head.dy.count + head.shape.queries)
        unsafe expectTwins(name, bounds: bounds) { c in
            let (y, logSums) = unsafe head.forward(c)
            return y + logSums
        }
    }
}

private func checkAttentionGradient(isBlocked: Bool) {
    Head.forEach(isBlocked: isBlocked) { head, name in
        let (y, logSums) = unsafe head.forward(kernels(.scalar))
        let error = head.shape.halves ? 0.2 : 2e-4
        let count = head.q.count + head.k.count + head.v.count
        unsafe expectTwins(name, bounds: [Double](repeating: error, count: count)) {
            unsafe head.backward($0, y, logSums)
        }
    }
}

let lossKernelChecks: [String: KernelCheck] = [
    "f32_cross_entropy": {
        forEachLoss { loss, name in
            let rows = loss.classes.count
            let bounds = [Double](repeating: 1e-4, count: 4 * rows)
            unsafe expectTwins(name, bounds: bounds) { unsafe loss.forward($0) }
        }
    },
    "f32_cross_entropy_gradient": {
        forEachLoss { loss, name in
            let sums = unsafe loss.forward(kernels(.scalar))
            let bounds = [Double](repeating: 1e-4, count: loss.x.count)
            unsafe expectTwins(name, bounds: bounds) { unsafe loss.backward($0, sums) }
        }
    },
]

/// Rows of logits against classes or distributions.
private struct Loss {
    let rows, columns: Int
    let x, targets, weights: [Float]
    let classes: [Int32]
    let hasWeights, isSoft: Bool
    let smoothing: Float

    func forward(_ c: esp_kernels) -> [Float] {
        let (x, targets, classes) = (Guarded(x), Guarded(targets), Guarded(classes))
        let weights = Guarded(weights)
        let (loss, weight) = (Guarded<Float>(7, count: rows), Guarded<Float>(7, count: rows))
        let sums = Guarded<Float>(7, count: 2 * rows)
        var rule = unsafe esp_cross_entropy(
            weights: hasWeights ? weights.pointer : nil, smoothing: smoothing)
        unsafe c.f32_cross_entropy(
            &rule, x.pointer, isSoft ? nil : classes.pointer, isSoft ? targets.pointer : nil,
            loss.pointer, weight.pointer, sums.pointer, rows, columns)
        return loss.values + weight.values + sums.values
    }

    func backward(_ c: esp_kernels, _ kept: [Float]) -> [Float] {
        let (x, targets, classes) = (Guarded(x), Guarded(targets), Guarded(classes))
        let weights = Guarded(weights)
        let weight = Guarded(Array(kept[rows..<2 * rows]))
        let sums = Guarded(Array(kept[(2 * rows)...]))
        let factors = Guarded(numbers(rows, 9))
        var rule = unsafe esp_cross_entropy(
            weights: hasWeights ? weights.pointer : nil, smoothing: smoothing)
        // In place.
        unsafe c.f32_cross_entropy_gradient(
            &rule, x.pointer, isSoft ? nil : classes.pointer, isSoft ? targets.pointer : nil,
            weight.pointer, sums.pointer, factors.pointer, x.pointer, rows, columns)
        return x.values
    }
}

private func forEachLoss(_ body: (Loss, String) -> Void) {
    for (rows, columns) in kernelMatrices where columns > 0 {
        for (hasWeights, isSoft, smoothing) in [
            (false, false, 0), (true, false, 0), (true, false, 0.2), (false, true, 0),
            (true, true, 0.1),
        ] as [(Bool, Bool, Float)] {
            var targets = numbers(rows * columns, 1).map { abs($0) + 0.1 }
            for row in 0..<rows {
                let range = row * columns..<(row + 1) * columns
                let sum = targets[range].reduce(0, +)
                for index in range { targets[index] /= sum }
            }
            body(
                Loss(
                    rows: rows, columns: columns, x: numbers(rows * columns).map { 3 * $0 },
                    targets: targets, weights: numbers(columns, 2).map { abs($0) },
                    classes: (0..<rows).map { Int32($0 % 5 == 3 ? -1 : $0 * 7 % columns) },
                    hasWeights: hasWeights, isSoft: isSoft, smoothing: smoothing),
                "cross-entropy of \(rows) x \(columns), \(hasWeights) \(isSoft) \(smoothing)")
        }
    }
}
