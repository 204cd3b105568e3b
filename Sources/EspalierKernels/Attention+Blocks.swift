import CEspalierKernels
import EspalierTensors

// Attention on activations in blocks of 64 tokens: a head's columns of a block lie together, and the kernels read and write
// them where they are.
extension Kernels {
    /// Where the columns of a piece of work's head begin in the operands and the result, and its sequence.
    private static func starts(
        _ rule: Attention, _ item: Int
    ) -> (sequence: Int, queries: Int, keys: Int, values: Int, result: Int) {
        let (sequence, head) = (item / rule.heads, item % rule.heads)
        func start(_ shape: Shape, columns: Int) -> Int {
            sequence * shape[1] * shape[2] + head * columns * blockTokens
        }
        let (depth, valueDepth) = (rule.shape.depth, rule.shape.value_depth)
        return (
            sequence, start(rule.shapes.queries, columns: depth),
            start(rule.shapes.keys, columns: depth),
            start(rule.shapes.values, columns: valueDepth),
            start(rule.shapes.result, columns: valueDepth)
        )
    }

    static func attentionInBlocks(
        _ rule: Attention, _ q: Tensor, _ k: Tensor, _ v: Tensor, keyMask: Tensor?
    ) -> (result: Tensor, logSums: Tensor) {
        let (queries, keys) = (rule.shape.queries, rule.shape.keys)
        var logSums = Tensor.zeros([rule.batch, rule.heads, queries])
        let result = unsafe Tensor(rule.shapes.result, layout: .tokenBlocked64) { y in
            unsafe logSums.writing { logSums in
                unsafe reading(q, k, v) { q, k, v in
                    unsafe readingAny(keyMask) { mask in
                        ThreadPool.shared.forEachChunk(rule.batch * rule.heads) { item in
                            let at = starts(rule, item)
                            var shape = rule.shape
                            _ = unsafe Tensor([esp_attention_blocks_scratch(&shape)]) { scratch in
                                unsafe c.f32_attention_blocks(
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

    static func attentionGradientsInBlocks(
        _ rule: Attention, _ q: Tensor, _ k: Tensor, _ v: Tensor, keyMask: Tensor?,
        result y: Tensor, logSums: Tensor, upstream dy: Tensor, needed: [Bool]
    ) -> [Tensor?] {
        let (queries, keys) = (rule.shape.queries, rule.shape.keys)
        // All elements are written by some head.
        var results = zip([q, k, v], needed).map { operand, needed in
            unsafe needed ? Tensor(operand.shape, layout: .tokenBlocked64) { _ in } : nil
        }
        let targets = unsafe results.indices.map { index in
            unsafe results[index]?.writing { unsafe $0 }
        }
        unsafe reading(q, k, v) { q, k, v in
            unsafe reading(y, logSums, dy) { y, logSums, dy in
                unsafe readingAny(keyMask) { mask in
                    ThreadPool.shared.forEachChunk(rule.batch * rule.heads) { item in
                        let at = starts(rule, item)
                        var shape = rule.shape
                        _ = unsafe Tensor([esp_attention_blocks_scratch(&shape)]) { scratch in
                            unsafe c.f32_attention_blocks_gradient(
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
}
