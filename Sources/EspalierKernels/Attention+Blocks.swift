import CEspalierKernels
import EspalierTensors

// Attention on activations in blocks of 64 tokens: a head's columns of a block lie together, and are turned into rows and
// back where they are used, in the nearest cache.
extension Kernels {
    /// The columns of one head in the blocks of one sequence.
    @unsafe private struct HeadBlocks {
        let blocks: Int
        let columns: Int
        let pitch: Int
        let first: Int

        init(_ shape: Shape, sequence: Int, head: Int, columns: Int) {
            unsafe blocks = shape[1] / blockTokens
            unsafe self.columns = columns
            unsafe pitch = shape[2] * blockTokens
            unsafe first =
                sequence * shape[1] / blockTokens * pitch + head * columns * blockTokens
        }

        /// Floats of the head's rows.
        var count: Int { unsafe blocks * blockTokens * columns }

        func read(_ x: UnsafePointer<Float>, into rows: UnsafeMutablePointer<Float>) {
            for block in unsafe 0..<blocks {
                unsafe c.f32_from_blocks(
                    x + first + block * pitch, blockTokens, columns,
                    rows + block * blockTokens * columns)
            }
        }

        func write(_ rows: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>) {
            for block in unsafe 0..<blocks {
                unsafe c.f32_to_blocks(
                    rows + block * blockTokens * columns, blockTokens, columns,
                    y + first + block * pitch)
            }
        }
    }

    /// The places of a piece of work in the operands and the result.
    private static func heads(
        _ rule: Attention, _ item: Int
    ) -> (sequence: Int, q: HeadBlocks, k: HeadBlocks, v: HeadBlocks, y: HeadBlocks) {
        let (sequence, head) = (item / rule.heads, item % rule.heads)
        let (depth, valueDepth) = (rule.shape.depth, rule.shape.value_depth)
        return unsafe (
            sequence,
            HeadBlocks(rule.shapes.queries, sequence: sequence, head: head, columns: depth),
            HeadBlocks(rule.shapes.keys, sequence: sequence, head: head, columns: depth),
            HeadBlocks(rule.shapes.values, sequence: sequence, head: head, columns: valueDepth),
            HeadBlocks(rule.shapes.result, sequence: sequence, head: head, columns: valueDepth)
        )
    }

    static func attentionInBlocks(
        _ rule: Attention, _ q: Tensor, _ k: Tensor, _ v: Tensor, keyMask: Tensor?
    ) -> (result: Tensor, logSums: Tensor) {
        let queries = rule.shape.queries
        var logSums = Tensor.zeros([rule.batch, rule.heads, queries])
        let result = unsafe Tensor(rule.shapes.result, layout: .tokenBlocked64) { y in
            unsafe logSums.writing { logSums in
                unsafe reading(q, k, v) { q, k, v in
                    unsafe readingAny(keyMask) { mask in
                        ThreadPool.shared.forEachChunk(rule.batch * rule.heads) { item in
                            let at = unsafe heads(rule, item)
                            var shape = rule.shape
                            let rows = unsafe at.q.count + at.k.count + at.v.count + at.y.count
                            let size = unsafe rows + esp_attention_scratch(&shape)
                            _ = unsafe Tensor([size]) { scratch in
                                let keys = unsafe scratch + at.q.count
                                let values = unsafe keys + at.k.count
                                let result = unsafe values + at.v.count
                                unsafe at.q.read(q, into: scratch)
                                unsafe at.k.read(k, into: keys)
                                unsafe at.v.read(v, into: values)
                                unsafe c.f32_attention(
                                    &shape, scratch, keys, values,
                                    mask.map { unsafe $0 + at.sequence * rule.shape.keys }, result,
                                    logSums + item * queries, result + at.y.count)
                                unsafe at.y.write(result, into: y)
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
        let queries = rule.shape.queries
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
                        let at = unsafe heads(rule, item)
                        var shape = rule.shape
                        let operands = unsafe at.q.count + at.k.count + at.v.count
                        let size =
                            unsafe 2 * operands + 2 * at.y.count
                            + esp_attention_gradient_scratch(&shape)
                        _ = unsafe Tensor([size]) { scratch in
                            let keys = unsafe scratch + at.q.count
                            let values = unsafe keys + at.k.count
                            let result = unsafe values + at.v.count
                            let upstream = unsafe result + at.y.count
                            let dq = unsafe upstream + at.y.count
                            let dk = unsafe dq + at.q.count
                            let dv = unsafe dk + at.k.count
                            unsafe at.q.read(q, into: scratch)
                            unsafe at.k.read(k, into: keys)
                            unsafe at.v.read(v, into: values)
                            unsafe at.y.read(y, into: result)
                            unsafe at.y.read(dy, into: upstream)
                            unsafe c.f32_attention_gradient(
                                &shape, scratch, keys, values,
                                mask.map { unsafe $0 + at.sequence * rule.shape.keys }, result,
                                logSums + item * queries, upstream, targets[0] == nil ? nil : dq,
                                targets[1] == nil ? nil : dk, targets[2] == nil ? nil : dv,
                                dv + at.v.count)
                            if let target = unsafe targets[0] {
                                unsafe at.q.write(dq, into: target)
                            }
                            if let target = unsafe targets[1] {
                                unsafe at.k.write(dk, into: target)
                            }
                            if let target = unsafe targets[2] {
                                unsafe at.v.write(dv, into: target)
                            }
                        }
                    }
                }
            }
        }
        withExtendedLifetime(results) {}
        return results
    }
}
