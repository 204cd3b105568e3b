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
        let columns = x.shape.last ?? 1
        let rows = x.shape.elementCount / max(columns, 1)
        return unsafe Tensor(x.shape, layout: .tokenBlocked64) { y in
            unsafe x.reading { x in
                for block in 0..<(rows + 63) / 64 {
                    for column in 0..<columns {
                        for lane in 0..<64 {
                            let row = block * 64 + lane
                            unsafe y[(block * columns + column) * 64 + lane] =
                                row < rows ? x[row * columns + column] : 0
                        }
                    }
                }
            }
        }
    }

    private static func unblocked(_ x: Tensor) -> Tensor {
        let columns = x.shape.last ?? 1
        let rows = x.shape.elementCount / max(columns, 1)
        return unsafe Tensor(x.shape) { y in
            unsafe x.reading { x in
                for row in 0..<rows {
                    for column in 0..<columns {
                        unsafe y[row * columns + column] =
                            x[(row / 64 * columns + column) * 64 + row % 64]
                    }
                }
            }
        }
    }
}
