package import CEspalierKernels
package import EspalierTensors

// Tensors read as rows of their innermost axis, one number for each.
extension Kernels {
    /// One number for each row. [rows, columns] -> [rows]
    package static func reduceRows(
        _ kind: esp_reduction, correction: Float = 0, _ x: Tensor, rows: Int, columns: Int
    ) -> Tensor {
        require(rows * columns == x.count, "\(x.shape) as \(rows) rows of \(columns)")
        return unsafe Tensor([rows]) { y in
            unsafe x.reading { x in
                forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                    unsafe c.f32_row_reduce(
                        kind, correction, x + at * columns, y + at, n, columns)
                }
            }
        }
    }

    /// dx of `reduceRows` from its operand, its result and the gradient for that.
    package static func reduceRowsGradient(
        _ kind: esp_reduction, correction: Float, _ x: Tensor, result y: Tensor,
        upstream dy: Tensor
    ) -> Tensor {
        let rows = y.count
        let columns = rows == 0 ? 0 : x.count / rows
        return unsafe Tensor(x.shape) { dx in
            unsafe reading(x, y, dy) { x, y, dy in
                forEachBlock(rows, grain: rowGrain(columns)) { at, n in
                    unsafe c.f32_row_reduce_gradient(
                        kind, correction, x + at * columns, y + at, dy + at, dx + at * columns, n,
                        columns)
                }
            }
        }
    }

    /// Where the largest or smallest element along an axis is, the first on a tie. The axis is left out.
    package static func extremes(_ x: Tensor, axis: Int, largest: Bool) -> IndexTensor {
        let axis = x.shape.normalized(axis: axis)
        require(x.shape[axis] > 0, "no largest element along axis \(axis) of \(x.shape)")
        let kept = x.shape.indices.filter { $0 != axis }
        let rows = x.permuted(kept + [axis])
        let (count, columns) = rowsAndColumns(rows.shape)
        let indices = unsafe [Int32](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let index = buffer.baseAddress {
                unsafe rows.reading { x in
                    forEachBlock(count, grain: rowGrain(columns)) { at, n in
                        unsafe c.f32_row_extreme(
                            largest, x + at * columns, index + at, n, columns)
                    }
                }
            }
            initialized = count
        }
        return IndexTensor(indices, shape: Shape(kept.map { x.shape[$0] }))
    }

    /// Where the `count` largest elements along the innermost axis are, the largest first, the first first on a tie.
    /// [..., C] -> [..., count]
    package static func largestIndices(_ x: Tensor, count: Int) -> IndexTensor {
        let (rows, columns) = rowsAndColumns(x.shape)
        require(count <= columns, "the largest \(count) of rows of \(x.shape)")
        var indices: [Int32] = []
        indices.reserveCapacity(rows * count)
        let elements = x.span
        for row in 0..<rows {
            // NaN counts as largest, as in `extremes`.
            let keys = (0..<columns).map { index in
                let value = elements[row * columns + index]
                return (value: value.isNaN ? Float.infinity : value, index: Int32(index))
            }
            let order = keys.sorted {
                $0.value > $1.value || ($0.value == $1.value && $0.index < $1.index)
            }
            indices += order.prefix(count).map(\.index)
        }
        return IndexTensor(indices, shape: Shape(x.shape.dropLast() + [count]))
    }

    /// The sum over the axes along which `target` was broadcast to the shape of x.
    package static func sum(_ x: Tensor, to target: Shape) -> Tensor {
        guard target != x.shape else { return x }
        guard target.broadcastStrides(to: x.shape) != nil else {
            fatalError("cannot sum \(x.shape) to \(target)")
        }
        let added = x.shape.rank - target.rank
        func isSummed(_ axis: Int) -> Bool {
            axis < added || (target[axis - added] == 1 && x.shape[axis] != 1)
        }
        let axes = Array(x.shape.indices)
        let (summed, kept) = (axes.filter(isSummed), axes.filter { !isSummed($0) })
        if target.elementCount == 1 { return Tensor(sum(x)).reshaped(to: target) }
        let rows = summed.reduce(1) { $0 * x.shape[$1] }
        let columns = kept.reduce(1) { $0 * x.shape[$1] }
        // Behind one another as they are: a sum of each row; otherwise one of each column.
        if kept + summed == axes {
            return reduceRows(ESP_SUM, x, rows: columns, columns: rows).reshaped(to: target)
        }
        let order = summed + kept
        let moved = order == axes ? x : x.permuted(order)
        return columnSums(moved.reshaped(to: [rows, columns])).reshaped(to: target)
    }
}
