import CEspalierKernels
package import EspalierTensors

// Tensors read as rows x columns, where the columns are the innermost axis: channels of images,
// features of a batch.
extension Kernels {
    /// The extents of a tensor read as rows of its innermost axis.
    static func rowsAndColumns(_ shape: Shape) -> (rows: Int, columns: Int) {
        let columns = shape.last ?? 1
        return (columns == 0 ? 0 : shape.elementCount / columns, columns)
    }

    /// Rows a thread takes at a time.
    static func rowGrain(_ columns: Int) -> Int { max(grain / max(columns, 1), 1) }

    /// Adds a row to each row of y, in place.
    package static func addRow(_ row: Tensor, to y: inout Tensor) {
        let (rows, columns) = rowsAndColumns(y.shape)
        require(row.count == columns, "a row of shape \(row.shape) for \(y.shape)")
        unsafe y.writing { y in
            unsafe row.reading { row in
                forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                    unsafe c.f32_add_row(row, y + at * columns, n, columns)
                }
            }
        }
    }

    /// The sum of each column. [..., C] -> [C]
    package static func columnSums(_ x: Tensor) -> Tensor {
        unsafe reduceColumns(x) { x, rows, columns, sums in
            unsafe c.f32_column_sums(x, rows, columns, sums)
        }
    }

    /// Mean and biased variance of each column. [..., C] -> [C], [C]
    ///
    /// Each chunk has its own mean and squares, which are joined in order and in double precision (Chan, Golub and LeVeque,
    /// "Algorithms for computing the sample variance", 1983).
    package static func columnMoments(_ x: Tensor) -> (mean: Tensor, variance: Tensor) {
        let (rows, columns) = rowsAndColumns(x.shape)
        let grain = max(rowGrain(columns), 64)
        let chunks = (rows + grain - 1) / grain
        var parts = unsafe Tensor([chunks, 2, columns]) { _ in }
        unsafe parts.writing { parts in
            unsafe x.reading { x in
                forEachBlock(rows, grain: grain) { at, n in
                    let own = unsafe parts + at / grain * 2 * columns
                    unsafe c.f32_column_moments(x + at * columns, n, columns, own, own + columns)
                }
            }
        }
        var mean = [Double](repeating: 0, count: columns)
        var squares = mean
        let values = parts.span
        for chunk in 0..<chunks {
            let (before, own) = (
                Double(chunk * grain), Double(min(grain, rows - chunk * grain))
            )
            for column in 0..<columns {
                let difference = Double(values[2 * chunk * columns + column]) - mean[column]
                squares[column] +=
                    Double(values[(2 * chunk + 1) * columns + column])
                    + difference * difference * before * own / (before + own)
                mean[column] += difference * own / (before + own)
            }
        }
        return (
            Tensor(mean.map(Float.init), shape: [columns]),
            Tensor(squares.map { Float($0 / Double(max(rows, 1))) }, shape: [columns])
        )
    }

    /// max(x scale[c] + shift[c] + more, 0). [..., C]
    package static func columnAffineReLU(
        _ x: Tensor, scale: Tensor, shift: Tensor, adding more: Tensor?
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        let (hasMore, other) = (more != nil, more ?? x)
        return unsafe Tensor(x.shape) { y in
            unsafe reading(x, other) { x, more in
                unsafe reading(scale, shift) { scale, shift in
                    forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                        let at = at * columns
                        unsafe c.f32_column_affine_relu(
                            x + at, scale, shift, hasMore ? more + at : nil, y + at, n, columns)
                    }
                }
            }
        }
    }

    /// The sums of each column of g and of g (x - mean), where g is dy, but 0 where `mask` is given and x scale + shift is
    /// not above 0. [..., C], [..., C], [C] -> [C], [C]
    package static func normSums(
        _ dy: Tensor, _ x: Tensor, mean: Tensor, mask: (scale: Tensor, shift: Tensor)?
    ) -> (sums: Tensor, products: Tensor) {
        let (rows, columns) = rowsAndColumns(x.shape)
        let grain = max(rowGrain(columns), 64)
        let chunks = max((rows + grain - 1) / grain, 1)
        var parts = Tensor.zeros([chunks, 2 * columns])
        let isMasked = mask != nil
        let (scale, shift) = mask ?? (mean, mean)
        unsafe parts.writing { parts in
            unsafe reading(dy, x, mean) { dy, x, mean in
                unsafe reading(scale, shift) { scale, shift in
                    forEachBlock(rows, grain: grain) { at, n in
                        let own = unsafe parts + at / grain * 2 * columns
                        unsafe c.f32_norm_sums(
                            dy + at * columns, x + at * columns, mean, isMasked ? scale : nil,
                            isMasked ? shift : nil, n, columns, own, own + columns)
                    }
                }
            }
        }
        var totals = [Double](repeating: 0, count: 2 * columns)
        let values = parts.span
        for chunk in 0..<chunks {
            for index in totals.indices {
                totals[index] += Double(values[chunk * totals.count + index])
            }
        }
        return (
            Tensor(totals.prefix(columns).map(Float.init), shape: [columns]),
            Tensor(totals.suffix(columns).map(Float.init), shape: [columns])
        )
    }

    /// g scale[c] + x slope[c] + level[c], with g as above. [..., C]
    package static func normGradient(
        _ dy: Tensor, _ x: Tensor, scale: Tensor, shift: Tensor?, slope: Tensor, level: Tensor
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        let (isMasked, own) = (shift != nil, shift ?? scale)
        return unsafe Tensor(x.shape) { dx in
            unsafe reading(dy, x, scale) { dy, x, scale in
                unsafe reading(own, slope, level) { own, slope, level in
                    forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                        let at = at * columns
                        unsafe c.f32_norm_gradient(
                            dy + at, x + at, scale, isMasked ? own : nil, slope, level, dx + at, n,
                            columns)
                    }
                }
            }
        }
    }

    /// x scale[c] + shift[c]. [..., C]
    package static func columnAffine(_ x: Tensor, scale: Tensor, shift: Tensor) -> Tensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        return unsafe Tensor(x.shape) { y in
            unsafe reading(x, scale, shift) { x, scale, shift in
                forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                    let at = at * columns
                    unsafe c.f32_column_affine(x + at, scale, shift, y + at, n, columns)
                }
            }
        }
    }

    // Rows are cut into chunks by the shape alone; each chunk has its own sums, which are then added in
    // order and in double precision.
    private static func reduceColumns(
        _ x: Tensor,
        _ kernel: (UnsafePointer<Float>, Int, Int, UnsafeMutablePointer<Float>) -> Void
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        let grain = max(rowGrain(columns), 64)
        let chunks = (rows + grain - 1) / grain
        var partials = Tensor.zeros([chunks, columns])
        unsafe partials.writing { sums in
            unsafe x.reading { x in
                forEachBlock(rows, grain: grain) { at, n in
                    unsafe kernel(x + at * columns, n, columns, sums + at / grain * columns)
                }
            }
        }
        if chunks == 1 { return partials.reshaped(to: [columns]) }
        var total = [Double](repeating: 0, count: columns)
        let sums = partials.span
        for chunk in 0..<chunks {
            for column in 0..<columns { total[column] += Double(sums[chunk * columns + column]) }
        }
        return Tensor(total.map(Float.init), shape: [columns])
    }
}

// MARK: - Softmax

extension Kernels {
    /// Softmax of factor * x along the innermost axis.
    package static func softmax(_ x: Tensor, factor: Float = 1) -> Tensor {
        unsafe mapRows(x) { unsafe c.f32_softmax(factor, $0, $1, $2, $3) }
    }

    /// The logarithm of the softmax of factor * x along the innermost axis.
    package static func logSoftmax(_ x: Tensor, factor: Float = 1) -> Tensor {
        unsafe mapRows(x) { unsafe c.f32_log_softmax(factor, $0, $1, $2, $3) }
    }

    /// dx of softmax from its output y.
    package static func softmaxGradient(output y: Tensor, upstream dy: Tensor) -> Tensor {
        unsafe combineRows(y, dy) { unsafe c.f32_softmax_gradient($0, $1, $2, $3, $4) }
    }

    /// dx of the logarithm of softmax from its output y.
    package static func logSoftmaxGradient(output y: Tensor, upstream dy: Tensor) -> Tensor {
        unsafe combineRows(y, dy) { unsafe c.f32_log_softmax_gradient($0, $1, $2, $3, $4) }
    }

    private static func mapRows(
        _ x: Tensor, _ kernel: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int) -> Void
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        return unsafe Tensor(x.shape) { y in
            unsafe x.reading { x in
                forEachBlock(rows, grain: rowGrain(4 * columns)) { at, n in
                    unsafe kernel(x + at * columns, y + at * columns, n, columns)
                }
            }
        }
    }

    private static func combineRows(
        _ a: Tensor, _ b: Tensor,
        _ kernel: (
            UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int
        ) -> Void
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(a.shape)
        return unsafe Tensor(a.shape) { y in
            unsafe reading(a, b) { a, b in
                forEachBlock(rows, grain: rowGrain(4 * columns)) { at, n in
                    let at = at * columns
                    unsafe kernel(a + at, b + at, y + at, n, columns)
                }
            }
        }
    }
}
