import CEspalierKernels
package import EspalierTensors

// Attention of heads that lie side by side in the last axis: one piece of work a head of a sequence.
extension Kernels {
    /// What all heads share: softmax(scale Q Kᵀ) V, [B, Lq, E], [B, Lk, E], [B, Lk, Ev] -> [B, Lq, Ev].
    package struct Attention: Sendable {
        let batch, heads: Int
        let shape: esp_attention
        let shapes: (queries: Shape, keys: Shape, values: Shape, result: Shape)
        let layout: Layout

        /// - Parameters:
        ///   - roundsFactors: Whether the factors of products are rounded to bfloat16.
        ///   - layout: Of all operands and the result. Blocks of 64 tokens must not be shared by two sequences.
        package init(
            queries: Shape, keys: Shape, values: Shape, heads: Int, isCausal: Bool, scale: Float,
            roundsFactors: Bool, layout: Layout = .rowMajor
        ) {
            require(
                queries.rank == 3 && keys.rank == 3 && values.rank == 3 && heads > 0,
                "attention of \(heads) heads of \(queries), \(keys) and \(values)")
            batch = queries[0]
            self.heads = heads
            let (depth, valueDepth) = (queries[2] / heads, values[2] / heads)
            let isBlocked = layout == .tokenBlocked64
            require(
                !isBlocked || Attention.fitsBlocks(queries, keys),
                "attention in blocks of \(queries) and \(keys)")
            // From row to row, or from block to block.
            let step = isBlocked ? blockTokens : 1
            shape = esp_attention(
                queries: queries[1], keys: keys[1], depth: depth, value_depth: valueDepth,
                query_pitch: step * queries[2], key_pitch: step * keys[2],
                value_pitch: step * values[2], result_pitch: step * values[2], scale: scale,
                causal: isCausal, halves: roundsFactors)
            shapes = (queries, keys, values, [queries[0], queries[1], values[2]])
            self.layout = layout
        }

        /// Whether no block of 64 tokens belongs to two sequences.
        package static func fitsBlocks(_ queries: Shape, _ keys: Shape) -> Bool {
            queries.rank == 3 && keys.rank == 3 && queries[1] % 64 == 0 && keys[1] % 64 == 0
        }

        /// Where a head of a sequence begins in queries, keys, values and result.
        fileprivate func starts(
            _ item: Int
        ) -> (sequence: Int, queries: Int, keys: Int, values: Int, result: Int) {
            let (sequence, head) = (item / heads, item % heads)
            return (
                sequence, sequence * shapes.queries[1] * shapes.queries[2] + head * shape.depth,
                sequence * shapes.keys[1] * shapes.keys[2] + head * shape.depth,
                sequence * shapes.values[1] * shapes.values[2] + head * shape.value_depth,
                sequence * shapes.result[1] * shapes.result[2] + head * shape.value_depth
            )
        }
    }

    /// The result, and for each query of each head the logarithm of its sum that the gradient asks for.
    ///
    /// `keyMask` [B, Lk] is 0 for keys that nobody sees.
    package static func attention(
        _ rule: Attention, _ q: Tensor, _ k: Tensor, _ v: Tensor, keyMask: Tensor?
    ) -> (result: Tensor, logSums: Tensor) {
        if rule.layout == .tokenBlocked64 {
            return attentionInBlocks(rule, q, k, v, keyMask: keyMask)
        }
        let count = rule.batch * rule.heads
        let (queries, keys) = (rule.shape.queries, rule.shape.keys)
        var logSums = Tensor.zeros([rule.batch, rule.heads, queries])
        let result = unsafe Tensor(rule.shapes.result) { y in
            unsafe logSums.writing { logSums in
                unsafe reading(q, k, v) { q, k, v in
                    unsafe readingAny(keyMask) { mask in
                        ThreadPool.shared.forEachChunk(count) { item in
                            let at = rule.starts(item)
                            var shape = rule.shape
                            _ = unsafe Tensor([esp_attention_scratch(&shape)]) { scratch in
                                unsafe c.f32_attention(
                                    &shape, q + at.queries, k + at.keys, v + at.values,
                                    mask.map { unsafe $0 + at.sequence * keys }, y + at.result,
                                    logSums + item * queries, scratch)
                            }
                        }
                    }
                }
            }
        }
        return (result, logSums)
    }

    /// The gradients for queries, keys and values, nil where nobody asks.
    package static func attentionGradients(
        _ rule: Attention, _ q: Tensor, _ k: Tensor, _ v: Tensor, keyMask: Tensor?,
        result y: Tensor,
        logSums: Tensor, upstream dy: Tensor, needed: [Bool]
    ) -> [Tensor?] {
        if rule.layout == .tokenBlocked64 {
            return attentionGradientsInBlocks(
                rule, q, k, v, keyMask: keyMask, result: y, logSums: logSums, upstream: dy,
                needed: needed)
        }
        let count = rule.batch * rule.heads
        let (queries, keys) = (rule.shape.queries, rule.shape.keys)
        // All elements are written by some head.
        var results = zip([q, k, v], needed).map { operand, needed in
            unsafe needed ? Tensor(operand.shape) { _ in } : nil
        }
        let targets = unsafe results.indices.map { index in
            unsafe results[index]?.writing { unsafe $0 }
        }
        unsafe reading(q, k, v) { q, k, v in
            unsafe reading(y, logSums, dy) { y, logSums, dy in
                unsafe readingAny(keyMask) { mask in
                    ThreadPool.shared.forEachChunk(count) { item in
                        let at = rule.starts(item)
                        var shape = rule.shape
                        _ = unsafe Tensor([esp_attention_gradient_scratch(&shape)]) { scratch in
                            unsafe c.f32_attention_gradient(
                                &shape, q + at.queries, k + at.keys, v + at.values,
                                mask.map { unsafe $0 + at.sequence * keys }, y + at.result,
                                logSums + item * queries, dy + at.result,
                                targets[0].map { unsafe $0 + at.queries },
                                targets[1].map { unsafe $0 + at.keys },
                                targets[2].map { unsafe $0 + at.values }, scratch)
                        }
                    }
                }
            }
        }
        // Until here nobody else has held them, so that their memory stayed where it was.
        withExtendedLifetime(results) {}
        return results
    }

    /// The elements of a tensor, or null, to read while `body` runs.
    static func readingAny(_ x: Tensor?, _ body: (UnsafePointer<Float>?) -> Void) {
        if let x { unsafe x.reading { unsafe body($0) } } else { body(nil) }
    }
}
