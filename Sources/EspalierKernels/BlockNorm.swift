package import CEspalierKernels
package import EspalierTensors

// What lies between sparse layers, on activations in blocks of 64 tokens: [blocks, columns, 64]. Functions of
// elements and sums of two tensors do not ask where an element lies, and work on blocks as they are.
extension Kernels {
    /// `layerNorm` of the tokens of blocks, each over its columns. `inverse` is [blocks, 64].
    ///
    /// What fills up the last block stays finite where it was and epsilon is above 0.
    package static func normalizeBlocks(
        _ x: Tensor, residual: Tensor? = nil, scale: Tensor? = nil, shift: Tensor? = nil,
        isCentred: Bool = true, epsilon: Float, keepsNormal: Bool = true
    ) -> (result: Tensor, normal: Tensor?, inverse: Tensor) {
        let (blocks, columns) = blocksAndColumns(x)
        require(residual.map { $0.shape == x.shape } ?? true, "a residual of \(x.shape)")
        for row in [scale, shift] {
            require((row?.count ?? columns) == columns, "a scale or a shift of \(columns) columns")
        }
        var inverse = unsafe Tensor([blocks, blockTokens]) { _ in }
        func run(_ normal: UnsafeMutablePointer<Float>?, _ y: UnsafeMutablePointer<Float>?) {
            unsafe inverse.writing { inverse in
                unsafe x.reading { x in
                    unsafe withPointers(residual, scale, shift) { residual, scale, shift in
                        forEachBlock(blocks, grain: 1) { block, n in
                            let at = block * columns * blockTokens
                            unsafe c.f32_block_norm(
                                isCentred, epsilon, x + at, residual.map { unsafe $0 + at }, scale,
                                shift, normal.map { unsafe $0 + at }, inverse + block * blockTokens,
                                y.map { unsafe $0 + at }, n, columns)
                        }
                    }
                }
            }
        }
        let (result, normal) = unsafe normResults(
            x.shape, keepsNormal: keepsNormal, isScaled: scale != nil, run)
        return (result, normal, inverse)
    }

    /// The gradients of `normalizeBlocks` for x (and its residual), scale and shift, nil where nobody asks.
    ///
    /// The sums over tokens are those of fixed ranges of blocks, added in order: the same for any number of threads.
    ///
    /// - Precondition: what fills up the last block of `dy` is 0; then so it is in the gradient for x.
    package static func normalizeBlocksGradients(
        normal: Tensor, inverse: Tensor, scale: Tensor? = nil, upstream dy: Tensor,
        isCentred: Bool = true, needsInput: Bool = true, needsScale: Bool = false,
        needsShift: Bool = false
    ) -> (input: Tensor?, scale: Tensor?, shift: Tensor?) {
        let (blocks, columns) = blocksAndColumns(dy)
        require(
            dy.shape == normal.shape && inverse.count == blocks * blockTokens
                && (scale?.count ?? columns) == columns, "\(dy.shape) for \(normal.shape)")
        let share = max((blocks + 31) / 32, 1)
        let parts = (blocks + share - 1) / share
        var scaleSums = Tensor.zeros([needsScale ? parts : 0, columns])
        var shiftSums = Tensor.zeros([needsShift ? parts : 0, columns])
        func run(_ dx: UnsafeMutablePointer<Float>?) {
            unsafe scaleSums.writing { scaleSums in
                unsafe shiftSums.writing { shiftSums in
                    unsafe reading(normal, inverse, dy) { normal, inverse, dy in
                        unsafe readingAny(scale) { scale in
                            forEachBlock(blocks, grain: share) { block, n in
                                let at = block * columns * blockTokens
                                let sums = block / share * columns
                                unsafe c.f32_block_norm_gradient(
                                    isCentred, normal + at, inverse + block * blockTokens, scale,
                                    dy + at, dx.map { unsafe $0 + at },
                                    needsScale ? scaleSums + sums : nil,
                                    needsShift ? shiftSums + sums : nil, n, columns)
                            }
                        }
                    }
                }
            }
        }
        var dx: Tensor?
        if needsInput { dx = unsafe Tensor(dy.shape) { unsafe run($0) } } else { run(nil) }
        return (
            dx, needsScale ? columnSums(scaleSums) : nil, needsShift ? columnSums(shiftSums) : nil
        )
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

    /// `unaryGradient` on blocks, in place of the upstream gradient where nobody else holds that, and where `tokens` are
    /// told the `blockSums` of the result, whose elements are then still near. [..., columns] -> [columns]
    package static func unaryGradientInBlocks(
        _ function: esp_unary, p: Float, q: Float, saved: Tensor, upstream dy: inout Tensor,
        tokens: Int?
    ) -> Tensor? {
        require(
            dy.layout == .tokenBlocked64 && saved.layout == dy.layout && saved.shape == dy.shape,
            "\(saved.shape) and its gradient \(dy.shape) in blocks")
        let (blocks, columns) = (Layout.blocks(dy.shape), dy.shape.last ?? 1)
        if let tokens { requireTokens(tokens, in: blocks) }
        let source = dy.isUnshared() ? nil : dy
        if source != nil { dy = unsafe Tensor(dy.shape, layout: dy.layout) { _ in } }
        // The parts and the order of `blockSums`.
        let share = max((blocks + 7) / 8, 1)
        let parts = max((blocks + share - 1) / share, 1)
        // What a function and its sum find in the nearest cache.
        let strip = 64
        var partial = Tensor.zeros([parts, columns])
        unsafe partial.writing { partial in
            unsafe dy.writing { dz in
                unsafe saved.reading { saved in
                    unsafe withPointer(source) { source in
                        forEachBlock(blocks, grain: share) { first, n in
                            for block in first..<first + n {
                                let last = block + 1 == blocks
                                let live =
                                    last ? (tokens ?? 0) - (blocks - 1) * blockTokens : blockTokens
                                for column in stride(from: 0, to: columns, by: strip) {
                                    let width = min(strip, columns - column)
                                    let at = (block * columns + column) * blockTokens
                                    unsafe c.f32_unary_gradient(
                                        function, p, q, saved + at,
                                        (source ?? UnsafePointer(dz)) + at,
                                        dz + at, width * blockTokens)
                                    if tokens == nil { continue }
                                    unsafe c.f32_block_sums(
                                        dz + at, nil, 1, width, live,
                                        partial + first / share * columns + column, nil)
                                }
                            }
                        }
                    }
                }
            }
        }
        return tokens == nil ? nil : columnSums(partial)
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
