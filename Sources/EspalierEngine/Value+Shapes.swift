package import EspalierGraph
public import EspalierTensors

// Ops that move elements, and products of matrices, as methods of values.
extension Value {
    /// The axes in another order: axis i of the result is axis order[i].
    public func permuted(_ order: [Int]) -> Value {
        tape.apply(.permute(Op.Permute(order)), self)
    }

    /// Two axes in each other's place.
    public func transposed(_ first: Int, _ second: Int) -> Value {
        var order = Array(shape.indices)
        order.swapAt(shape.normalized(axis: first), shape.normalized(axis: second))
        return permuted(order)
    }

    package func sliced(_ parts: [Op.Slice.Part]) -> Value {
        tape.apply(.slice(Op.Slice(parts)), self)
    }

    /// From `start` in steps until before `end` along an axis; negative ones count from its end, nil is its end.
    public func sliced(axis: Int, from start: Int? = nil, to end: Int? = nil, step: Int = 1)
        -> Value
    {
        sliced([Op.Slice.Part(axis: axis, start: start, end: end, step: step)])
    }

    /// Some axes backwards.
    public func flipped(axes: [Int]) -> Value {
        sliced(axes.map { Op.Slice.Part(axis: $0, step: -1) })
    }

    /// Parts of these sizes along an axis, which they fill.
    public func split(_ sizes: [Int], axis: Int) -> [Value] {
        require(
            sizes.allSatisfy { $0 >= 0 }
                && sizes.reduce(0, +) == shape[shape.normalized(axis: axis)],
            "parts of \(sizes) along axis \(axis) of \(shape)")
        var start = 0
        return sizes.map { size in
            defer { start += size }
            return sliced(axis: axis, from: start, to: start + size)
        }
    }

    /// Values behind one another along an axis.
    ///
    /// - Precondition: there is at least one.
    public static func concatenated(_ values: [Value], axis: Int) -> Value {
        require(!values.isEmpty, "nothing to concatenate")
        return values[0].tape.apply(.concatenate(Op.Concatenate(axis: axis)), values).value
    }

    /// Values of one shape side by side along a new axis.
    public static func stacked(_ values: [Value], axis: Int) -> Value {
        concatenated(values.map { $0.withAxis(at: axis) }, axis: axis)
    }

    /// A new axis of extent 1 at a place in the result.
    public func withAxis(at axis: Int) -> Value {
        let place = axis < 0 ? axis + shape.rank + 1 : axis
        require((0...shape.rank).contains(place), "no place \(axis) for a new axis of \(shape)")
        var extents = Array(shape)
        extents.insert(1, at: place)
        return reshaped(to: extents)
    }

    /// The whole repeated along each axis; there may be new outer axes.
    public func tiled(_ counts: [Int]) -> Value {
        require(counts.count >= shape.rank && !counts.contains { $0 < 1 }, "\(counts) of \(shape)")
        let added = [Int](repeating: 1, count: counts.count - shape.rank)
        var result = added.isEmpty ? self : reshaped(to: added + shape)
        for (axis, count) in counts.enumerated() where count > 1 {
            result = .concatenated([Value](repeating: result, count: count), axis: axis)
        }
        return result
    }

    /// More elements around each axis.
    package func padded(_ mode: Op.Pad.Mode, before: [Int], after: [Int]) -> Value {
        tape.apply(.pad(Op.Pad(mode, before: before, after: after)), self)
    }

    /// Repeated along axes of extent 1 and new outer axes; -1 keeps an axis.
    public func expanded(to extents: [Int]) -> Value {
        tape.apply(.expand(Op.Expand(to: extents)), self)
    }

    /// The last two axes up to `diagonal` places right of the main diagonal, the rest 0.
    public func lowerTriangle(diagonal: Int = 0) -> Value {
        tape.apply(.triangle(Op.Triangle(diagonal: diagonal, isLower: true)), self)
    }

    /// The last two axes from `diagonal` places right of the main diagonal on, the rest 0.
    public func upperTriangle(diagonal: Int = 0) -> Value {
        tape.apply(.triangle(Op.Triangle(diagonal: diagonal, isLower: false)), self)
    }

    /// The element at the place along an axis that each index says; the result has the indices' shape, which along other
    /// axes may be the smaller.
    public func gathered(axis: Int, _ indices: IndexTensor) -> Value {
        let own = shape.normalized(axis: axis)
        let cut = zip(shape.indices, indices.shape).filter { $0 != own && $1 < shape[$0] }
        let x = cut.isEmpty ? self : sliced(cut.map { Op.Slice.Part(axis: $0, end: $1) })
        return tape.apply(.gather(Op.Gather(axis: axis, indices: indices)), x)
    }

    /// The entries of an axis by number. [..., n, ...] -> [..., indices' shape, ...]
    public func taken(axis: Int, _ indices: IndexTensor) -> Value {
        tape.apply(.take(Op.Take(axis: axis, indices: indices)), self)
    }

    /// Rows of this table by number; one of them may be frozen. [V, D] -> [..., D]
    public func embedding(_ ids: IndexTensor, frozen: Int32? = nil) -> Value {
        tape.apply(.take(Op.Take(axis: 0, indices: ids, frozen: frozen)), self)
    }

    /// This with each element of `source` added at the place along an axis that its index says.
    public func adding(_ source: Value, axis: Int, at indices: IndexTensor) -> Value {
        tape.apply(.scatterAdd(Op.ScatterAdd(axis: axis, indices: indices)), self, source)
    }

    /// The product of matrices, the last two axes; those before are broadcast. A vector on the left is a row, on the
    /// right a column, and its axis is left out of the result. [..., m, k], [..., k, n] -> [..., m, n]
    public func matMul(
        _ other: Value, transposed: Bool = false, otherTransposed: Bool = false
    ) -> Value {
        let (isRow, isColumn) = (shape.rank == 1, other.shape.rank == 1)
        let left = isRow ? withAxis(at: 0) : self
        let right = isColumn ? other.withAxis(at: 1) : other
        let op = Op.MatMul(
            transposesA: transposed && !isRow, transposesB: otherTransposed && !isColumn)
        let product = tape.apply(.matMul(op), left, right)
        var extents = Array(product.shape)
        if isColumn { extents.removeLast() }
        if isRow { extents.remove(at: isColumn ? extents.count - 1 : extents.count - 2) }
        return isRow || isColumn ? product.reshaped(to: extents) : product
    }
}
