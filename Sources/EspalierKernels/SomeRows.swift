import CEspalierKernels
package import EspalierTensors

/// Rows of a table, all others being zero: how the gradient of an embedding is held, of whose rows a batch meets few.
///
/// A table of 30,522 words has a gradient of 47 MB, of which 2,048 tokens touch at most 3.
package final class SomeRows: LiveWeights {
    /// Of the table.
    package let shape: Shape
    /// Which rows are held, ascending.
    package let rows: [Int32]
    /// Elements of a row.
    package let size: Int

    package var count: Int { rows.count * size }

    /// The rows of a table that `indices` name, without negative ones; and for each index the place of its row among
    /// those, -1 for a negative one.
    ///
    /// - Precondition: indices are below the table's extent.
    static func named(by indices: [Int32], of shape: Shape) -> (rows: SomeRows, places: [Int32]) {
        var place = [Int32](repeating: -1, count: shape[0])
        for index in indices where index >= 0 { place[Int(index)] = 0 }
        var rows: [Int32] = []
        for row in place.indices where place[row] == 0 {
            place[row] = Int32(rows.count)
            rows.append(Int32(row))
        }
        return (
            SomeRows(shape: shape, rows: rows), indices.map { $0 < 0 ? -1 : place[Int($0)] }
        )
    }

    private init(shape: Shape, rows: [Int32]) {
        self.shape = shape
        self.rows = rows
        size = shape.dropFirst().reduce(1, *)
    }

    package func gathered(_ dense: Tensor) -> Tensor {
        require(dense.shape == shape, "\(dense.shape) for rows of \(shape)")
        return Kernels.take(dense, axis: 0, rows, shape: [rows.count, size])
            .viewed(shape, .live(self))
    }

    package func scattered(_ live: Tensor) -> Tensor {
        require(live.layout == .live(self), "rows of another table")
        return Kernels.takeGradient(
            upstream: live.viewed([rows.count, size], .rowMajor), axis: 0, rows, shape: shape)
    }

    /// The rows that a tensor holds, where it holds some only.
    package static func held(by tensor: Tensor) -> SomeRows? {
        guard case .live(let entries) = tensor.layout else { return nil }
        return entries as? SomeRows
    }

    /// Parts of a range of the table's elements, in order, each inside of a row that is held, or where none is. `body`
    /// gets the first element, how many, and where they are among those held.
    func forEachPart(
        from first: Int, count: Int, _ body: (_ at: Int, _ count: Int, _ held: Int?) -> Void
    ) {
        guard count > 0 else { return }
        let end = first + count
        // The first row held that ends behind the beginning.
        var (low, high) = (0, rows.count)
        while low < high {
            let middle = (low + high) / 2
            if (Int(rows[middle]) + 1) * size <= first { low = middle + 1 } else { high = middle }
        }
        var at = first
        while at < end {
            guard low < rows.count, Int(rows[low]) * size < end else {
                body(at, end - at, nil)
                return
            }
            let start = Int(rows[low]) * size
            if at < start {
                body(at, start - at, nil)
                at = start
            }
            let stop = min(start + size, end)
            body(at, stop - at, low * size + at - start)
            at = stop
            low += 1
        }
    }
}

extension Kernels {
    /// `takeGradient` along the first axis, holding only the rows that were read where those are few.
    package static func takeRowsGradient(
        upstream dy: Tensor, _ indices: [Int32], shape: Shape
    ) -> Tensor {
        // Below that a pass over the whole table costs little.
        guard shape.elementCount >= 1 << 18, indices.count <= shape[0] / 2 else {
            return takeGradient(upstream: dy, axis: 0, indices, shape: shape)
        }
        let (rows, places) = SomeRows.named(by: indices, of: shape)
        let held = takeGradient(
            upstream: dy, axis: 0, places, shape: [rows.rows.count, rows.size])
        return held.viewed(shape, .live(rows))
    }
}
