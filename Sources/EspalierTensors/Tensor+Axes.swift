extension Tensor {
    /// The axes in another order, copied: axis `i` of the result is axis `order[i]`.
    ///
    /// - Precondition: `order` is a permutation of the axes.
    public func permuted(_ order: [Int]) -> Tensor {
        require(
            order.sorted() == Array(0..<shape.rank), "\(order) is no permutation of \(shape)")
        let strides = shape.strides
        return strided(Shape(order.map { shape[$0] }), strides: order.map { strides[$0] })
    }

    /// The tensor repeated along axes of extent 1 and new outer axes, copied.
    ///
    /// - Precondition: each axis, counted from the last, has the wanted extent or 1.
    public func broadcast(to target: Shape) -> Tensor {
        guard let strides = shape.broadcastStrides(to: target) else {
            fatalError("cannot broadcast \(shape) to \(target)")
        }
        return target == shape ? self : strided(target, strides: strides)
    }

    /// Some entries of the first axis, side by side; no copy where these are all.
    public func rows(_ range: Range<Int>) -> Tensor {
        if range == 0..<shape[0] { return self }
        let size = shape.dropFirst().reduce(1, *)
        return unsafe Tensor(Shape([range.count] + shape.dropFirst())) { result in
            unsafe reading {
                unsafe result.update(
                    from: $0 + range.lowerBound * size, count: range.count * size)
            }
        }
    }

    /// A copy whose element at `index` is the one at offset + sum of index * strides.
    package func strided(_ target: Shape, strides: [Int], offset: Int = 0) -> Tensor {
        unsafe Tensor(target) { result in
            unsafe reading { elements in
                unsafe StridedCopy(target, from: strides, to: target.strides).run(
                    elements + offset, result)
            }
        }
    }
}

extension Shape {
    /// The shape that two operands are broadcast to, or nil where they do not fit.
    package func broadcast(with other: Shape) -> Shape? {
        let rank = Swift.max(count, other.count)
        var result = Shape()
        for axis in 0..<rank {
            let (a, b) = (axis - rank + count, axis - rank + other.count)
            let (left, right) = (a < 0 ? 1 : self[a], b < 0 ? 1 : other[b])
            guard left == right || left == 1 || right == 1 else { return nil }
            result.append(left == 1 ? right : left)
        }
        return result
    }

    /// Strides that read this shape as `target`, 0 along broadcast axes; nil where it does not fit.
    package func broadcastStrides(to target: Shape) -> [Int]? {
        guard count <= target.count else { return nil }
        let own = strides
        var result = [Int](repeating: 0, count: target.count)
        for axis in 0..<count {
            let outer = axis + target.count - count
            if self[axis] == target[outer] {
                result[outer] = self[axis] == 1 ? 0 : own[axis]
            } else if self[axis] != 1 {
                return nil
            }
        }
        return result
    }
}
