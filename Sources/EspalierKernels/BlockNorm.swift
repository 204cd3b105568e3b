import CEspalierKernels
package import EspalierTensors

// What lies between sparse layers, on activations in blocks of 64 tokens: [blocks, columns, 64]. Functions of
// elements and sums of two tensors do not ask where an element lies, and work on blocks as they are.
extension Kernels {
    /// What `normalizeBlocks` gives.
    package struct BlockNorm: Sendable {
        /// x + residual, or x.
        package let sum: Tensor
        /// Each token of `sum` less its mean, where it is centred, times `inverse`.
        package let normalized: Tensor
        /// One over the deviation of each token. [blocks, 64]
        package let inverse: Tensor
        /// normalized scale[c] + shift[c], or `normalized`.
        package let result: Tensor
    }

    /// The norm of each token over its columns, of x or of x + residual, and an affine function behind it.
    package static func normalizeBlocks(
        _ x: Tensor, adding residual: Tensor? = nil, isCentred: Bool = true, epsilon: Float,
        scale: Tensor? = nil, shift: Tensor? = nil
    ) -> BlockNorm {
        let (blocks, columns) = blocksAndColumns(x)
        require(
            residual.map { $0.shape == x.shape } ?? true, "\(x.shape) and another residual")
        require(
            (scale == nil) == (shift == nil) && (scale?.count ?? columns) == columns
                && (shift?.count ?? columns) == columns, "a scale and a shift of \(columns) columns"
        )
        var sum = residual == nil ? x : unsafe Tensor(x.shape) { _ in }
        var inverse = unsafe Tensor([blocks, blockTokens]) { _ in }
        var normalized = unsafe Tensor(x.shape) { _ in }
        var result = scale == nil ? normalized : unsafe Tensor(x.shape) { _ in }
        func run(
            _ sum: UnsafeMutablePointer<Float>?, _ result: UnsafeMutablePointer<Float>?
        ) {
            unsafe inverse.writing { r in
                unsafe normalized.writing { y in
                    unsafe x.reading { x in
                        unsafe withPointers(residual, scale, shift) { residual, scale, shift in
                            forEachBlock(blocks, grain: 1) { block, n in
                                let at = block * columns * blockTokens
                                unsafe c.f32_block_norm(
                                    isCentred, epsilon, x + at, residual.map { unsafe $0 + at },
                                    scale, shift, n, columns, sum.map { unsafe $0 + at }, y + at,
                                    r + block * blockTokens, result.map { unsafe $0 + at })
                            }
                        }
                    }
                }
            }
        }
        switch (residual == nil, scale == nil) {
        case (true, true):
            // Not held twice, so that it is written in place.
            result = x
            run(nil, nil)
            result = normalized
        case (true, false): unsafe result.writing { unsafe run(nil, $0) }
        case (false, true):
            result = x
            unsafe sum.writing { unsafe run($0, nil) }
            result = normalized
        case (false, false):
            unsafe sum.writing { sum in unsafe result.writing { unsafe run(sum, $0) } }
        }
        return BlockNorm(sum: sum, normalized: normalized, inverse: inverse, result: result)
    }

    /// dx of `normalizeBlocks`, which is that of the residual too, added to `sum` where there is one.
    package static func normalizeBlocksGradient(
        normalized y: Tensor, inverse: Tensor, upstream dz: Tensor, scale: Tensor? = nil,
        isCentred: Bool = true, addedTo sum: consuming Tensor? = nil
    ) -> Tensor {
        let (blocks, columns) = blocksAndColumns(y)
        require(
            dz.shape == y.shape && inverse.count == blocks * blockTokens
                && (scale?.count ?? columns) == columns, "\(dz.shape) for \(y.shape)")
        let accumulates = sum != nil
        var dx = if let sum { sum } else { unsafe Tensor(y.shape) { _ in } }
        require(dx.shape == y.shape, "dx of \(dx.shape) for \(y.shape)")
        unsafe dx.writing { dx in
            unsafe reading(y, inverse, dz) { y, r, dz in
                unsafe withPointers(scale, nil, nil) { scale, _, _ in
                    forEachBlock(blocks, grain: 1) { block, n in
                        let at = block * columns * blockTokens
                        unsafe c.f32_block_norm_gradient(
                            isCentred, y + at, r + block * blockTokens, dz + at, scale, accumulates,
                            n, columns, dx + at)
                    }
                }
            }
        }
        return dx
    }

    /// The sum of each column over its tokens, and that of a b: the gradients of a shift and of a scale. What fills
    /// up the last block is left out. [blocks, columns, 64] -> [columns], [columns]
    package static func blockSums(
        _ a: Tensor, times b: Tensor? = nil, tokens: Int
    ) -> (sums: Tensor, products: Tensor?) {
        let (blocks, columns) = blocksAndColumns(a)
        requireTokens(tokens, in: blocks)
        require(b.map { $0.shape == a.shape } ?? true, "\(a.shape) and another operand")
        // Parts of the tokens one after another, as many as depends on their number alone.
        let share = max((blocks + 7) / 8, 1)
        let parts = max((blocks + share - 1) / share, 1)
        var partial = Tensor.zeros([2, parts, columns])
        unsafe partial.writing { partial in
            unsafe a.reading { a in
                unsafe withPointers(b, nil, nil) { b, _, _ in
                    forEachBlock(blocks, grain: share) { block, n in
                        let at = block * columns * blockTokens
                        let last = block + n == blocks ? tokens - (blocks - 1) * blockTokens : 64
                        let sums = unsafe partial + block / share * columns
                        unsafe c.f32_block_sums(
                            a + at, b.map { unsafe $0 + at }, n, columns, last, sums,
                            b == nil ? nil : sums + parts * columns)
                    }
                }
            }
            for half in 0..<(b == nil ? 1 : 2) {
                let first = unsafe partial + half * parts * columns
                for part in 1..<max(parts, 1) {
                    unsafe c.f32_add(first, first + part * columns, first, columns)
                }
            }
        }
        func row(_ half: Int) -> Tensor {
            unsafe Tensor([columns]) { y in
                unsafe partial.reading {
                    unsafe y.update(from: $0 + half * parts * columns, count: columns)
                }
            }
        }
        return (row(0), b == nil ? nil : row(1))
    }

    private static func withPointers(
        _ a: Tensor?, _ b: Tensor?, _ c: Tensor?,
        _ body: (UnsafePointer<Float>?, UnsafePointer<Float>?, UnsafePointer<Float>?) -> Void
    ) {
        unsafe withPointer(a) { a in
            unsafe withPointer(b) { b in unsafe withPointer(c) { c in unsafe body(a, b, c) } }
        }
    }
}
