import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Permute: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        inputs[0].permuted(order)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        var inverse = order
        for (place, axis) in order.enumerated() { inverse[axis] = place }
        return [upstream.permuted(inverse)]
    }
}

extension Op.Slice: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let box = box(in: inputs[0].shape)
        let strides = inputs[0].shape.strides
        return inputs[0].strided(
            box.shape, strides: zip(strides, box.steps).map { $0 * $1 },
            offset: zip(strides, box.start).reduce(0) { $0 + $1.0 * $1.1 })
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let box = box(in: saved.inputShapes[0])
        var dx = Tensor.zeros(saved.inputShapes[0])
        Kernels.put(upstream, into: &dx, start: box.start, steps: box.steps)
        return [dx]
    }
}

extension Op.Concatenate: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let axis = inputs[0].shape.normalized(axis: axis)
        var shape = inputs[0].shape
        shape[axis] = inputs.reduce(0) { $0 + $1.shape[axis] }
        var y = Tensor.zeros(shape)
        var start = [Int](repeating: 0, count: shape.rank)
        let steps = [Int](repeating: 1, count: shape.rank)
        for input in inputs {
            Kernels.put(input, into: &y, start: start, steps: steps)
            start[axis] += input.shape[axis]
        }
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let axis = upstream.shape.normalized(axis: axis)
        let strides = upstream.shape.strides
        var start = 0
        return zip(saved.inputShapes, saved.needed).map { shape, needed in
            defer { start += shape[axis] }
            return needed
                ? upstream.strided(shape, strides: strides, offset: start * strides[axis]) : nil
        }
    }
}

extension Op.Pad: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let x = inputs[0]
        guard case .constant(let value) = mode else {
            return x.shape.indices.reduce(x) { x, axis in
                let places = places(x.shape[axis], axis)
                guard places.count != x.shape[axis] else { return x }
                var shape = x.shape
                shape[axis] = places.count
                return Kernels.take(x, axis: axis, places, shape: shape)
            }
        }
        let shape = Shape(x.shape.indices.map { x.shape[$0] + before[$0] + after[$0] })
        var y = Tensor(repeating: value, shape: shape)
        let (source, target) = (inside(x.shape), inside(x.shape, isTarget: true))
        Kernels.put(
            slice(x, source), into: &y, start: target.map(\.lowerBound),
            steps: [Int](repeating: 1, count: shape.rank))
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        guard case .constant = mode else {
            return [
                shape.indices.reversed().reduce(upstream) { dy, axis in
                    let places = places(shape[axis], axis)
                    guard places.count != shape[axis] else { return dy }
                    var narrow = dy.shape
                    narrow[axis] = shape[axis]
                    return Kernels.takeGradient(
                        upstream: dy, axis: axis, places, shape: narrow)
                }
            ]
        }
        var dx = Tensor.zeros(shape)
        let (source, target) = (inside(shape), inside(shape, isTarget: true))
        Kernels.put(
            slice(upstream, target), into: &dx, start: source.map(\.lowerBound),
            steps: [Int](repeating: 1, count: shape.rank))
        return [dx]
    }

    /// Which entry of an axis each entry of the padded one is.
    private func places(_ extent: Int, _ axis: Int) -> [Int32] {
        (-before[axis]..<extent + after[axis]).map { place in
            switch mode {
            case .reflect:
                let mirrored = abs(place)
                return Int32(mirrored < extent ? mirrored : 2 * (extent - 1) - mirrored)
            default: return Int32(min(max(place, 0), extent - 1))
            }
        }
    }

    /// What stays of each axis, as places in x or in the padded tensor.
    private func inside(_ shape: Shape, isTarget: Bool = false) -> [Range<Int>] {
        shape.indices.map { axis in
            let first = min(max(-before[axis], 0), shape[axis])
            let end = max(min(shape[axis], shape[axis] + after[axis]), first)
            let shift = isTarget ? before[axis] : 0
            return first == end ? 0..<0 : first + shift..<end + shift
        }
    }

    private func slice(_ x: Tensor, _ box: [Range<Int>]) -> Tensor {
        let strides = x.shape.strides
        return x.strided(
            Shape(box.map(\.count)), strides: strides,
            offset: zip(strides, box).reduce(0) { $0 + $1.0 * $1.1.lowerBound })
    }
}

extension Op.Expand: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let shape = inputs[0].shape
        let added = extents.count - shape.rank
        return inputs[0].broadcast(
            to: Shape(extents.indices.map { extents[$0] == -1 ? shape[$0 - added] : extents[$0] }))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.sum(upstream, to: saved.inputShapes[0])]
    }
}

extension Op.Triangle: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        Kernels.triangle(inputs[0], diagonal: diagonal, isLower: isLower)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.triangle(upstream, diagonal: diagonal, isLower: isLower)]
    }
}

// MARK: - By index

extension Op.Gather: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        Kernels.gather(inputs[0], axis: inputs[0].shape.normalized(axis: axis), indices)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        var dx = Tensor.zeros(saved.inputShapes[0])
        Kernels.scatterAdd(
            upstream, axis: dx.shape.normalized(axis: axis), indices, to: &dx)
        return [dx]
    }
}

extension Op.Take: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let shape = inputs[0].shape
        let axis = shape.normalized(axis: axis)
        require(
            indices.elements.allSatisfy { $0 >= 0 },
            "take: a negative index along axis \(axis) of \(shape)")
        return Kernels.take(
            inputs[0], axis: axis, indices.elements,
            shape: Shape(Array(shape[..<axis]) + indices.shape + shape[(axis + 1)...]))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let shape = saved.inputShapes[0]
        // The kernel leaves out what is negative.
        let live = indices.elements.map { $0 == frozen ? -1 : $0 }
        let axis = shape.normalized(axis: axis)
        return [
            axis == 0
                ? Kernels.takeRowsGradient(upstream: upstream, live, shape: shape)
                : Kernels.takeGradient(upstream: upstream, axis: axis, live, shape: shape)
        ]
    }
}

extension Op.ScatterAdd: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        var y = inputs[0]
        Kernels.scatterAdd(inputs[1], axis: y.shape.normalized(axis: axis), indices, to: &y)
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [
            saved.needed[0] ? upstream : nil,
            saved.needed[1]
                ? Kernels.gather(
                    upstream, axis: upstream.shape.normalized(axis: axis), indices) : nil,
        ]
    }
}
