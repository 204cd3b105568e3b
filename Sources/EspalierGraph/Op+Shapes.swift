package import EspalierTensors

// Ops that move elements and compute nothing.
extension Op {
    /// The axes in another order: axis i of the result is axis order[i].
    package struct Permute: Operation {
        package let order: [Int]

        package init(_ order: [Int]) { self.order = order }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard order.sorted() == Array(inputs[0].indices) else {
                throw ShapeError("permute: \(order) is no permutation of the axes of \(inputs[0])")
            }
            return Shape(order.map { inputs[0][$0] })
        }
    }

    /// Every so many elements of some axes.
    package struct Slice: Operation {
        /// From `start` in steps until before `end`; negative ones count from the axis' end, and what lies outside is
        /// cut off. A negative step goes backwards.
        package struct Part: Sendable, Hashable {
            package let axis: Int
            package let start: Int
            package let end: Int
            package let step: Int

            /// nil stands for the axis' own end in that direction.
            package init(axis: Int, start: Int? = nil, end: Int? = nil, step: Int = 1) {
                let (low, high) = (Int(Int32.min), Int(Int32.max))
                self.axis = axis
                self.start = start ?? (step < 0 ? high : low)
                self.end = end ?? (step < 0 ? low : high)
                self.step = step
            }
        }

        package let parts: [Part]

        package init(_ parts: [Part]) { self.parts = parts }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            _ = try inputs[0].axes(parts.map(\.axis), "slice")
            guard parts.allSatisfy({ $0.step != 0 && abs($0.step) <= Int32.max }) else {
                throw ShapeError("slice: steps \(parts.map(\.step)) along \(inputs[0])")
            }
            return box(in: inputs[0]).shape
        }

        /// Where the slice begins, its steps along each axis, and its shape.
        package func box(in shape: Shape) -> (start: [Int], steps: [Int], shape: Shape) {
            var start = [Int](repeating: 0, count: shape.rank)
            var steps = [Int](repeating: 1, count: shape.rank)
            var result = shape
            for part in parts {
                let axis = shape.normalized(axis: part.axis)
                let extent = shape[axis]
                let bounds = part.step > 0 ? 0...extent : -1...extent - 1
                func place(_ index: Int) -> Int {
                    let own = index < 0 ? index + extent : index
                    return min(max(own, bounds.lowerBound), bounds.upperBound)
                }
                let (first, end) = (place(part.start), place(part.end))
                let distance = part.step > 0 ? end - first : first - end
                let size = abs(part.step)
                result[axis] = distance > 0 ? (distance + size - 1) / size : 0
                // An empty slice begins nowhere.
                start[axis] = distance > 0 ? first : 0
                steps[axis] = part.step
            }
            return (start, steps, result)
        }
    }

    /// Tensors behind one another along an axis.
    package struct Concatenate: Operation {
        package let axis: Int

        package init(axis: Int) { self.axis = axis }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let own = try inputs[0].axes([axis], "concatenate")[0]
            var result = inputs[0]
            let total = inputs.reduce(0) { $0 + ($1.rank > own ? $1[own] : 0) }
            guard total <= Int32.max else { throw ShapeError("concatenate: \(inputs) is too long") }
            result[own] = total
            for shape in inputs {
                var expected = result
                expected[own] = shape.rank > own ? shape[own] : 0
                guard shape == expected else {
                    throw ShapeError("concatenate along axis \(axis): \(inputs) do not fit")
                }
            }
            return result
        }
    }

    /// More elements around each axis, or fewer.
    package struct Pad: Operation {
        package enum Mode: Sendable, Hashable {
            /// Negative numbers of elements take some away.
            case constant(Float)
            /// The neighbours inside, mirrored at the outermost element.
            case reflect
            /// The outermost element.
            case replicate
        }

        package let mode: Mode
        /// Of each axis.
        package let before: [Int]
        package let after: [Int]

        package init(_ mode: Mode, before: [Int], after: [Int]) {
            self.mode = mode
            self.before = before
            self.after = after
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let shape = inputs[0]
            guard before.count == shape.rank, after.count == shape.rank else {
                throw ShapeError("pad: \(before) and \(after) for the axes of \(shape)")
            }
            let extents = shape.indices.map { shape[$0] + before[$0] + after[$0] }
            let fits = shape.indices.allSatisfy { axis in
                let padding = [before[axis], after[axis]]
                guard padding.allSatisfy({ Swift.abs($0) <= Int32.max }) else { return false }
                return switch mode {
                case .constant: (0...Int(Int32.max)).contains(extents[axis])
                case .reflect: padding.allSatisfy { $0 == 0 || (0..<shape[axis]).contains($0) }
                case .replicate:
                    padding.allSatisfy { $0 == 0 || ($0 > 0 && shape[axis] > 0) }
                        && extents[axis] <= Int32.max
                }
            }
            guard fits else {
                throw ShapeError("pad: \(before) before and \(after) after \(shape)")
            }
            return Shape(extents)
        }
    }

    /// Repeated along axes of extent 1 and new outer axes; -1 keeps an axis.
    package struct Expand: Operation {
        package let extents: [Int]

        package init(to extents: [Int]) { self.extents = extents }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let shape = inputs[0]
            let added = extents.count - shape.rank
            guard added >= 0, extents.count <= Shape.maximumRank,
                extents.indices.allSatisfy({
                    extents[$0] == -1 ? $0 >= added : (0...Int(Int32.max)).contains(extents[$0])
                })
            else { throw ShapeError("expand: \(shape) to \(extents)") }
            let result = Shape(
                extents.indices.map { extents[$0] == -1 ? shape[$0 - added] : extents[$0] })
            guard shape.broadcastStrides(to: result) != nil else {
                throw ShapeError("expand: \(shape) to \(extents)")
            }
            return result
        }
    }

    /// The last two axes on and below a diagonal, or on and above it; the rest is 0.
    package struct Triangle: Operation {
        /// How far the diagonal is moved to the right.
        package let diagonal: Int
        package let isLower: Bool

        package init(diagonal: Int, isLower: Bool) {
            self.diagonal = diagonal
            self.isLower = isLower
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard inputs[0].rank >= 2 else {
                throw ShapeError("triangle: \(inputs[0]) is no matrix")
            }
            return inputs[0]
        }
    }
}

// MARK: - By index

// The indices are data of one batch: these stand in no file.
extension Op {
    /// The elements at the place along an axis that each index says. x [..., n, ...], indices [..., m, ...]
    package struct Gather: Operation {
        package let axis: Int
        package let indices: IndexTensor

        package init(axis: Int, indices: IndexTensor) {
            self.axis = axis
            self.indices = indices
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            try requireIndices("gather", inputs[0], indices.shape, axis)
            return indices.shape
        }
    }

    /// The entries of an axis by number, as in an embedding. x [..., n, ...] -> [..., indices' shape, ...]
    package struct Take: Operation {
        package let axis: Int
        package let indices: IndexTensor
        /// An entry that gets no gradient.
        package let frozen: Int32?

        package init(axis: Int, indices: IndexTensor, frozen: Int32? = nil) {
            self.axis = axis
            self.indices = indices
            self.frozen = frozen
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let own = try inputs[0].axes([axis], "take")[0]
            guard inputs[0].rank - 1 + indices.shape.rank <= Shape.maximumRank else {
                throw ShapeError("take: indices of shape \(indices.shape) for \(inputs[0])")
            }
            return Shape(Array(inputs[0][..<own]) + indices.shape + inputs[0][(own + 1)...])
        }
    }

    /// x with each element of a source added at the place along an axis that its index says. Operands: x and the
    /// source, which has the indices' shape.
    package struct ScatterAdd: Operation {
        package let axis: Int
        package let indices: IndexTensor

        package init(axis: Int, indices: IndexTensor) {
            self.axis = axis
            self.indices = indices
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            try requireIndices("scatter", inputs[0], indices.shape, axis)
            guard inputs[1] == indices.shape else {
                throw ShapeError("scatter: \(inputs[1]) by indices of shape \(indices.shape)")
            }
            return inputs[0]
        }
    }
}

/// Indices differ from what they point into along the axis only.
private func requireIndices(
    _ op: String, _ shape: Shape, _ indices: Shape, _ axis: Int
) throws(ShapeError) {
    let own = try shape.axes([axis], op)[0]
    var expected = shape
    if indices.rank > own { expected[own] = indices[own] }
    guard indices == expected else {
        throw ShapeError("\(op) along axis \(axis): indices of shape \(indices) for \(shape)")
    }
}
