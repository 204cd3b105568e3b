import CEspalierKernels
package import EspalierTensors

/// The values of a sparse weight as its kernels read them: made from flat values once a step.
package struct SparseWeights: Sendable {
    package let pattern: LivePattern
    let main: Tensor
    let transposed: Tensor?

    /// - Parameter values: The live weights in canonical order. [count]
    package init(_ values: Tensor, _ pattern: LivePattern) {
        require(values.count == pattern.count, "\(values.shape) for \(pattern.count) live weights")
        self.pattern = pattern
        main = Kernels.permute(values, by: pattern.main.canonical)
        transposed = pattern.transposed.map { Kernels.permute(values, by: $0.canonical) }
    }

    /// What it is made of, for those who keep tensors.
    package var parts: [Tensor] { [main] + (transposed.map { [$0] } ?? []) }

    /// The same from its parts.
    package init(parts: [Tensor], _ pattern: LivePattern) {
        self.pattern = pattern
        main = parts[0]
        transposed = parts.count > 1 ? parts[1] : nil
    }
}

// Activations in blocks of 64 tokens, the last one filled up: [blocks, columns, 64]. What fills up a gradient is zero;
// what fills up other operands may be anything finite.
extension Kernels {
    /// Tokens of a block.
    package static let blockTokens = 64

    /// Rows to blocks, filled up with zeros. [..., columns] -> [blocks, columns, 64]
    package static func toBlocks(_ x: Tensor) -> Tensor {
        let (tokens, columns) = rowsAndColumns(x.shape)
        let blocks = (tokens + blockTokens - 1) / blockTokens
        return unsafe Tensor([blocks, columns, blockTokens]) { y in
            unsafe x.reading { x in
                ThreadPool.shared.forEachRange(blocks, grain: blockGrain) { range in
                    let first = range.lowerBound * blockTokens
                    unsafe c.f32_to_blocks(
                        x + first * columns, min(range.count * blockTokens, tokens - first),
                        columns, y + first * columns)
                }
            }
        }
    }

    /// Blocks to rows. [blocks, columns, 64] -> [tokens, columns]
    package static func fromBlocks(_ x: Tensor, tokens: Int) -> Tensor {
        let (blocks, columns) = blocksAndColumns(x)
        requireTokens(tokens, in: blocks)
        return unsafe Tensor([tokens, columns]) { y in
            unsafe x.reading { x in
                ThreadPool.shared.forEachRange(blocks, grain: blockGrain) { range in
                    let first = range.lowerBound * blockTokens
                    unsafe c.f32_from_blocks(
                        x + first * columns, min(range.count * blockTokens, tokens - first),
                        columns, y + first * columns)
                }
            }
        }
    }

    /// What follows a sparse layer.
    package enum Epilogue: Sendable {
        case none
        /// max(z, 0), in place of z.
        case relu
        /// z Phi(z), beside z.
        case gelu
    }

    /// z = x Wt + bias, or its ReLU; and y = GELU(z) where that follows.
    /// [blocks, inputs, 64] -> [blocks, outputs, 64]
    package static func sparseLinear(
        _ x: Tensor, _ weights: SparseWeights, bias: Tensor? = nil, then epilogue: Epilogue = .none
    ) -> (z: Tensor, y: Tensor?) {
        let pattern = weights.pattern
        if let bias { require(bias.count == pattern.outputs, "a bias of shape \(bias.shape)") }
        let kind =
            switch epilogue {
            case .none: ESP_PLAIN
            case .relu: ESP_THEN_RELU
            case .gelu: ESP_THEN_GELU
            }
        require(blocksAndColumns(x).columns == pattern.inputs, "\(x.shape) for \(pattern.inputs)")
        let shape: Shape = [x.shape[0], pattern.outputs, blockTokens]
        var z = unsafe Tensor(shape) { _ in }
        guard epilogue == .gelu else {
            unsafe withPointer(bias) {
                unsafe product(
                    x, weights, isBackward: false, bias: $0, accumulates: false, kind, into: &z, nil
                )
            }
            return (z, nil)
        }
        let y = unsafe Tensor(shape) { y in
            unsafe withPointer(bias) {
                unsafe product(
                    x, weights, isBackward: false, bias: $0, accumulates: false, kind, into: &z, y)
            }
        }
        return (z, y)
    }

    /// dX = dY W, added to `sum` where there is one. [blocks, outputs, 64] -> [blocks, inputs, 64]
    package static func sparseLinearInputGradient(
        _ dy: Tensor, _ weights: SparseWeights, addedTo sum: consuming Tensor? = nil
    ) -> Tensor {
        let pattern = weights.pattern
        require(blocksAndColumns(dy).columns == pattern.outputs, "\(dy.shape): outputs")
        let shape: Shape = [dy.shape[0], pattern.inputs, blockTokens]
        let accumulates = sum != nil
        // Given up by its former holder, so that it is not copied.
        var dx = if let sum = consume sum { sum } else { unsafe Tensor(shape) { _ in } }
        require(dx.shape == shape, "dX of \(dx.shape) for \(shape)")
        unsafe product(
            dy, weights, isBackward: true, bias: nil, accumulates: accumulates, ESP_PLAIN,
            into: &dx, nil)
        return dx
    }

    /// dW = dYt X at the live places, in canonical order. [blocks, inputs, 64], [blocks, outputs, 64] -> [count]
    ///
    /// Parts of the tokens are summed apart and then one after another: how many there are depends on their number
    /// alone.
    package static func sparseLinearWeightGradient(
        _ x: Tensor, upstream dy: Tensor, _ pattern: LivePattern
    ) -> Tensor {
        let (blocks, inputs) = blocksAndColumns(x)
        require(
            inputs == pattern.inputs && dy.shape == [blocks, pattern.outputs, blockTokens],
            "\(x.shape) and \(dy.shape) for a weight of \(pattern.outputs)x\(pattern.inputs)")
        let order = pattern.main
        let size = order.canonical.count
        let share = max((blocks + maximumParts - 1) / maximumParts, blockGrain)
        let parts = max((blocks + share - 1) / share, 1)
        var sums = unsafe Tensor([parts, size]) { sums in
            unsafe reading(x, dy) { x, dy in
                ThreadPool.shared.forEachRange(parts, grain: runLength(parts)) { range in
                    for part in range {
                        let first = part * share
                        let count = min(share, blocks - first)
                        let after = min(range.upperBound * share, blocks) - first - count
                        let (x, dy) = unsafe (
                            x + first * inputs * blockTokens,
                            dy + first * pattern.outputs * blockTokens
                        )
                        unsafe (sums + part * size).update(repeating: 0, count: size)
                        unsafe order.withC(nil) {
                            unsafe addWeightGradient(
                                pattern, $0, x, dy, blocks: count, after: after,
                                into: sums + part * size)
                        }
                    }
                }
            }
        }
        if parts > 1 {
            unsafe sums.writing { sums in
                forEachBlock(size) { at, n in
                    for part in 1..<parts {
                        unsafe c.f32_add(sums + at, sums + part * size + at, sums + at, n)
                    }
                }
            }
        }
        return permute(sums, by: order.places)
    }

    /// x[index[i]], and zero where an index is negative. -> [index.count]
    static func permute(_ x: Tensor, by index: [Int32]) -> Tensor {
        let count = index.count
        return unsafe Tensor([count]) { y in
            unsafe x.reading { x in
                unsafe index.withUnsafeBufferPointer { index in
                    guard let index = index.baseAddress else { return }
                    forEachBlock(count) { at, n in
                        unsafe c.f32_permute(index + at, x, y + at, n)
                    }
                }
            }
        }
    }
}

// MARK: - Calls

extension Kernels {
    // Blocks of tokens that a thread takes at a time, one after another: each calls for the next one ahead.
    private static let blockGrain = 4
    // A kernel calls for each block while it has the one before: the first of a run comes cold. No result depends on the
    // runs, so that they may depend on the number of threads.
    private static func runLength(_ count: Int) -> Int {
        min(max((count + 2 * ThreadPool.shared.width - 1) / (2 * ThreadPool.shared.width), 1), 16)
    }
    // Of a weight's gradient: each has memory of its own.
    private static let maximumParts = 8

    static func blocksAndColumns(_ x: Tensor) -> (blocks: Int, columns: Int) {
        require(x.shape.rank == 3 && x.shape[2] == blockTokens, "\(x.shape) is not in blocks")
        return (x.shape[0], x.shape[1])
    }

    static func requireTokens(_ tokens: Int, in blocks: Int) {
        require(
            (tokens + blockTokens - 1) / blockTokens == blocks, "\(tokens) tokens, \(blocks) blocks"
        )
    }

    private typealias Product = (
        UnsafePointer<esp_f32_sparse>, UnsafePointer<Float>, Int, UnsafePointer<Float>?, Bool,
        esp_epilogue, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>?
    ) -> Void

    // z = x Wt or, backward, z = x W, in chunks of blocks.
    private static func product(
        _ x: Tensor, _ weights: SparseWeights, isBackward: Bool, bias: UnsafePointer<Float>?,
        accumulates: Bool, _ epilogue: esp_epilogue, into z: inout Tensor,
        _ y: UnsafeMutablePointer<Float>?
    ) {
        let pattern = weights.pattern
        let kernels = unsafe c
        let multiply: Product
        var (order, values) = (pattern.main, weights.main)
        switch (pattern.block, isBackward) {
        case (.single, _):
            unsafe multiply = unsafe kernels.f32_sparse_multiply
            if isBackward, let transposed = pattern.transposed, let moved = weights.transposed {
                (order, values) = (transposed, moved)
            }
        case (.oneByFour, true), (.fourByOne, false), (.fourByFour, false):
            unsafe multiply = unsafe kernels.f32_fours_multiply
        case (.oneByFour, false), (.fourByOne, true), (.fourByFour, true):
            unsafe multiply = unsafe kernels.f32_fours_spread
        }
        let (blocks, columns) = blocksAndColumns(x)
        let results = isBackward ? pattern.inputs : pattern.outputs
        unsafe z.writing { z in
            unsafe reading(x, values) { x, values in
                unsafe order.withC(values) { order in
                    ThreadPool.shared.forEachRange(blocks, grain: runLength(blocks)) { range in
                        let first = range.lowerBound * blockTokens
                        unsafe multiply(
                            order, x + first * columns, range.count, bias, accumulates, epilogue,
                            z + first * results, y.map { unsafe $0 + first * results })
                    }
                }
            }
        }
    }

    // Adds to the gradient in the kernel's order.
    private static func addWeightGradient(
        _ pattern: LivePattern, _ order: UnsafePointer<esp_f32_sparse>, _ x: UnsafePointer<Float>,
        _ dy: UnsafePointer<Float>, blocks: Int, after: Int,
        into gradient: UnsafeMutablePointer<Float>
    ) {
        switch pattern.block {
        case .single: unsafe c.f32_sparse_gradient(order, x, dy, blocks, after, gradient)
        case .fourByOne, .fourByFour:
            unsafe c.f32_fours_gradient(order, x, dy, blocks, after, gradient)
        // Its groups are inputs.
        case .oneByFour: unsafe c.f32_fours_gradient(order, dy, x, blocks, after, gradient)
        }
    }

    static func withPointer(
        _ tensor: Tensor?, _ body: (UnsafePointer<Float>?) -> Void
    ) {
        guard let tensor else { return body(nil) }
        unsafe tensor.reading { unsafe body($0) }
    }
}
