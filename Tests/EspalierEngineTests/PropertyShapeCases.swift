import EspalierEngine
import EspalierGraph
import EspalierTensors

// What moves elements, at random shapes.

func moveProperties(_ draw: inout Draw) -> [PropertyCase] {
    let x = draw.normal(draw.extents(0...5))
    var order = Array(x.shape.indices)
    for place in order.indices { order.swapAt(place, draw.next(place...order.count - 1)) }
    let own = order
    let flat = draw.normal(draw.extents(0...4))
    let size = flat.count
    let target = size % 2 == 0 && size > 0 ? [2, -1, 1] : [1, size]
    return [
        PropertyCase("permute \(own)", [x]) {
            $0[0].permuted(own)
        } is: { operands in
            Naive(own.map { operands[0].shape[$0] }) { index in
                var source = index
                for (place, axis) in own.enumerated() { source[axis] = index[place] }
                return operands[0][source]
            }
        },
        PropertyCase("reshape to \(target)", [flat]) {
            $0[0].reshaped(to: target)
        } is: {
            $0[0].reshaped(target.map { $0 == -1 ? size / 2 : $0 })
        },
    ]
}

func sliceProperties(_ draw: inout Draw) -> [PropertyCase] {
    let x = draw.normal(draw.extents(1...4))
    var parts: [Op.Slice.Part] = []
    for axis in x.shape.indices where draw.next(0...1) == 0 {
        let step = draw.pick([1, 1, 2, 3, -1, -2])
        let start = draw.next(0...2) == 0 ? nil : draw.next(-8...8)
        let end = draw.next(0...2) == 0 ? nil : draw.next(-8...8)
        parts.append(Op.Slice.Part(axis: axis, start: start, end: end, step: step))
    }
    let own = parts
    return [
        PropertyCase("slice \(own.map { [$0.axis, $0.start, $0.end, $0.step] })", [x]) {
            $0[0].sliced(own)
        } is: { operands in
            // As in Python: the places that a range over the axis has.
            let places = operands[0].shape.enumerated().map { axis, extent in
                guard let part = own.first(where: { $0.axis == axis }) else {
                    return Array(0..<extent)
                }
                let isForward = part.step > 0
                func bound(_ place: Int) -> Int {
                    let counted = place < 0 ? place + extent : place
                    return isForward
                        ? min(max(counted, 0), extent) : min(max(counted, -1), extent - 1)
                }
                return Array(
                    stride(from: bound(part.start), to: bound(part.end), by: part.step))
            }
            return Naive(places.map(\.count)) { index in
                operands[0][zip(index, places).map { $1[$0] }]
            }
        }
    ]
}

func joinProperties(_ draw: inout Draw) -> [PropertyCase] {
    let shape = draw.extents(1...4)
    let axis = draw.next(0...shape.count - 1)
    let parts = (0..<draw.next(1...4)).map { _ in
        var own = shape
        own[axis] = draw.extent()
        return draw.normal(own)
    }
    let target = draw.extents(0...4)
    let narrow = draw.normal(draw.narrowed(target))
    return [
        PropertyCase("concatenate along \(axis)", parts) {
            .concatenated($0, axis: axis)
        } is: { operands in
            var shape = operands[0].shape
            shape[axis] = operands.reduce(0) { $0 + $1.shape[axis] }
            return Naive(shape) { index in
                var index = index
                for operand in operands {
                    if index[axis] < operand.shape[axis] { return operand[index] }
                    index[axis] -= operand.shape[axis]
                }
                return .nan
            }
        },
        PropertyCase("expand to \(target)", [narrow]) {
            $0[0].expanded(to: target)
        } is: { operands in
            Naive(target) { operands[0][$0] }
        },
    ]
}

func padProperties(_ draw: inout Draw) -> [PropertyCase] {
    let modes: [Op.Pad.Mode] = [.constant(1.5), .reflect, .replicate]
    return modes.compactMap { mode in
        let x = draw.normal(draw.extents(1...4))
        let before = x.shape.map { _ in draw.next(-1...3) }
        let after = x.shape.map { _ in draw.next(-1...3) }
        guard (try? Op.Pad(mode, before: before, after: after).outputShape([x.shape])) != nil else {
            return nil
        }
        return PropertyCase("pad \(mode) \(before) \(after)", [x]) {
            $0[0].padded(mode, before: before, after: after)
        } is: { operands in
            let shape = operands[0].shape
            let padded = shape.indices.map { shape[$0] + before[$0] + after[$0] }
            return Naive(padded) { index in
                var source: [Int] = []
                for (axis, place) in index.enumerated() {
                    var own = place - before[axis]
                    let last = shape[axis] - 1
                    switch mode {
                    case .constant(let value):
                        if own < 0 || own > last { return Double(value) }
                    case .reflect: own = own < 0 ? -own : own > last ? 2 * last - own : own
                    case .replicate: own = min(max(own, 0), last)
                    }
                    source.append(own)
                }
                return operands[0][source]
            }
        }
    }
}

func triangleProperties(_ draw: inout Draw) -> [PropertyCase] {
    [true, false].map { isLower in
        let x = draw.normal(draw.extents(2...4))
        let diagonal = draw.next(-5...5)
        return PropertyCase("triangle \(isLower) \(diagonal)", [x]) {
            isLower
                ? $0[0].lowerTriangle(diagonal: diagonal) : $0[0].upperTriangle(diagonal: diagonal)
        } is: { operands in
            Naive(operands[0].shape) { index in
                let distance = index[index.count - 1] - index[index.count - 2] - diagonal
                return (isLower ? distance <= 0 : distance >= 0) ? operands[0][index] : 0
            }
        }
    }
}

func indexProperties(_ draw: inout Draw) -> [PropertyCase] {
    var shape = draw.extents(1...3)
    let axis = draw.next(0...shape.count - 1)
    shape[axis] = max(shape[axis], 1)
    let own = shape
    let x = draw.normal(own)
    let count = draw.extent()
    let picked = own.indices.map { $0 == axis ? count : own[$0] }
    let places = draw.indices(picked, below: own[axis])
    let ids = draw.indices(draw.extents(0...2), below: own[axis])
    let numbered: @Sendable (IndexTensor, [Int]) -> Int = { indices, index in
        let place = zip(index, indices.shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
        return Int(indices.elements[place])
    }
    return [
        PropertyCase("gather along \(axis)", [x]) {
            $0[0].gathered(axis: axis, places)
        } is: { operands in
            Naive(Array(places.shape)) { index in
                var source = index
                source[axis] = numbered(places, index)
                return operands[0][source]
            }
        },
        PropertyCase("take along \(axis) \(ids.shape)", [x]) {
            $0[0].taken(axis: axis, ids)
        } is: { operands in
            let rank = ids.shape.rank
            return Naive(Array(own[..<axis]) + Array(ids.shape) + Array(own[(axis + 1)...])) {
                index in
                let row = numbered(ids, Array(index[axis..<axis + rank]))
                return operands[0][Array(index[..<axis]) + [row] + Array(index[(axis + rank)...])]
            }
        },
        PropertyCase("scatter along \(axis)", [x, draw.normal(picked)]) {
            $0[0].adding($0[1], axis: axis, at: places)
        } is: { operands in
            Naive(own) { index in
                (0..<picked[axis]).reduce(operands[0][index]) { sum, place in
                    var source = index
                    source[axis] = place
                    return numbered(places, source) == index[axis]
                        ? sum + operands[1][source] : sum
                }
            }
        },
    ]
}
