package import EspalierTensors

// Between layouts.
extension Kernels {
    /// The tensor in another layout; itself where it has it already.
    package static func converted(_ x: Tensor, to layout: Layout) -> Tensor {
        if x.layout == layout { return x }
        switch (x.layout, layout) {
        case (.live(let entries), _): return converted(entries.scattered(x), to: layout)
        case (_, .live(let entries)): return entries.gathered(converted(x, to: .rowMajor))
        case (.rowMajor, _): return blocked(x)
        case (.tokenBlocked64, _): return unblocked(x)
        }
    }

    private static func blocked(_ x: Tensor) -> Tensor {
        toBlocks(x).viewed(x.shape, .tokenBlocked64)
    }

    private static func unblocked(_ x: Tensor) -> Tensor {
        let columns = x.shape.last ?? 1
        let tokens = x.shape.dropLast().reduce(1, *)
        let blocks: Shape = [Layout.blocks(x.shape), columns, blockTokens]
        return fromBlocks(x.viewed(blocks, .rowMajor), tokens: tokens).reshaped(to: x.shape)
    }
}
