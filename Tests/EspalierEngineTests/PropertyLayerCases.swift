import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import Foundation

// Products, windows, losses and grids at random shapes.

func productProperties(_ draw: inout Draw) -> [PropertyCase] {
    let (rows, depth, columns) = (draw.extent(), draw.extent(), draw.extent())
    let outer = draw.extents(0...2).map { min($0, 3) }
    let (batchA, batchB) = (draw.narrowed(outer), draw.narrowed(outer))
    let (ta, tb) = (draw.next(0...1) == 0, draw.next(0...1) == 0)
    let a = draw.normal(batchA + (ta ? [depth, rows] : [rows, depth]))
    let b = draw.normal(batchB + (tb ? [columns, depth] : [depth, columns]))
    let x = draw.normal(draw.extents(0...2) + [depth])
    let hasBias = draw.next(0...1) == 0
    let layer = [x, draw.normal([columns, depth])] + (hasBias ? [draw.normal([columns])] : [])
    return [
        PropertyCase("matmul \(ta) \(tb)", [a, b]) {
            $0[0].matMul($0[1], transposed: ta, otherTransposed: tb)
        } is: { operands in
            Naive(Naive.broadcast([batchA, batchB]) + [rows, columns]) { index in
                let (batch, row, column) = (
                    Array(index.dropLast(2)), index[index.count - 2], index[index.count - 1]
                )
                return (0..<depth).reduce(0) { sum, place in
                    sum + operands[0][batch + (ta ? [place, row] : [row, place])]
                        * operands[1][batch + (tb ? [column, place] : [place, column])]
                }
            }
        },
        PropertyCase("linear", layer) {
            $0[0].linear(weight: $0[1], bias: hasBias ? $0[2] : nil)
        } is: { operands in
            Naive(operands[0].shape.dropLast() + [columns]) { index in
                let output = index[index.count - 1]
                return (0..<depth).reduce(hasBias ? operands[2][[output]] : 0) { sum, place in
                    sum + operands[0][Array(index.dropLast()) + [place]]
                        * operands[1][[output, place]]
                }
            }
        },
    ]
}

private struct Geometry: Sendable {
    let kernel: Size2D
    let stride: Size2D
    let padding: Padding2D
    let dilation: Size2D
    let roundsUp: Bool

    init(_ draw: inout Draw, isPooling: Bool) {
        kernel = Size2D(draw.next(1...3), draw.next(1...3))
        stride = Size2D(draw.next(1...3), draw.next(1...3))
        let (height, width) = (kernel.height, kernel.width)
        padding =
            isPooling
            ? Padding2D(Size2D(draw.next(0...height / 2), draw.next(0...width / 2)))
            : Padding2D(
                top: draw.next(0...2), left: draw.next(0...2), bottom: draw.next(0...2),
                right: draw.next(0...2))
        dilation = isPooling ? Size2D(1) : Size2D(draw.next(1...2), draw.next(1...2))
        roundsUp = isPooling && draw.next(0...1) == 0
    }

    var window: Window2D {
        Window2D(
            kernel: kernel, stride: stride, padding: padding, dilation: dilation,
            roundsUp: roundsUp)
    }

    /// The pixels of an image that each tap of a window meets, nil in the padding.
    func pixels(_ row: Int, _ column: Int, _ height: Int, _ width: Int) -> [(
        tap: [Int], at: [Int]?
    )] {
        (0..<kernel.height).flatMap { ky in
            (0..<kernel.width).map { kx in
                let y = row * stride.height - padding.top + ky * dilation.height
                let x = column * stride.width - padding.left + kx * dilation.width
                let isInside = (0..<height).contains(y) && (0..<width).contains(x)
                return ([ky, kx], isInside ? [y, x] : nil)
            }
        }
    }

    /// Rows and columns of the result, counted by trying.
    func positions(_ height: Int, _ width: Int) -> (Int, Int) {
        func count(_ extent: Int, _ kernel: Int, _ step: Int, _ first: Int, _ last: Int, _ gap: Int)
            -> Int
        {
            var found = 0
            while true {
                let start = found * step
                let end = start + gap * (kernel - 1)
                let fits = end < extent + first + last
                // A last window that hangs over must begin inside the image or the padding before it.
                let hangs =
                    roundsUp && start - step + gap * (kernel - 1) < extent + first + last - 1
                    && start < extent + first
                guard fits || (found > 0 && hangs) else { return found }
                found += 1
            }
        }
        return (
            count(
                height, kernel.height, stride.height, padding.top, padding.bottom, dilation.height),
            count(width, kernel.width, stride.width, padding.left, padding.right, dilation.width)
        )
    }
}

func convolutionProperties(_ draw: inout Draw) -> [PropertyCase] {
    let geometry = Geometry(&draw, isPooling: false)
    let groups = draw.pick([1, 1, 2, 3])
    let (inputs, outputs) = (draw.pick([0, 1, 2, 3]), draw.pick([0, 1, 2, 3, 5]))
    let x = draw.normal([
        draw.pick([0, 1, 2, 3]), draw.next(1...7), draw.next(1...7), groups * inputs,
    ])
    let weight = draw.normal(
        [groups * outputs, geometry.kernel.height, geometry.kernel.width, inputs])
    let bias = draw.normal([groups * outputs])
    let op = Op.Conv2D(
        stride: geometry.stride, padding: geometry.padding, dilation: geometry.dilation,
        groups: groups)
    guard (try? op.outputShape([x.shape, weight.shape, bias.shape])) != nil else { return [] }
    return [
        PropertyCase("conv2d in \(groups) groups, \(geometry)", [x, weight, bias]) {
            $0[0].conv2D(weight: $0[1], bias: $0[2], op)
        } is: { operands in
            let (x, weight) = (operands[0], operands[1])
            let (height, width) = geometry.positions(x.shape[1], x.shape[2])
            return Naive([x.shape[0], height, width, groups * outputs]) { index in
                let group = index[3] / max(outputs, 1)
                var sum = operands[2][[index[3]]]
                for (tap, at) in geometry.pixels(index[1], index[2], x.shape[1], x.shape[2]) {
                    guard let at else { continue }
                    for channel in 0..<inputs {
                        sum +=
                            x[[index[0]] + at + [group * inputs + channel]]
                            * weight[[index[3]] + tap + [channel]]
                    }
                }
                return sum
            }
        }
    ]
}

func poolProperties(_ draw: inout Draw) -> [PropertyCase] {
    let geometry = Geometry(&draw, isPooling: true)
    let x = draw.normal(
        [draw.pick([0, 1, 2]), draw.next(1...7), draw.next(1...7), draw.pick([0, 1, 2, 3, 17])])
    guard geometry.window.positions(over: Size2D(x.shape[1], x.shape[2])) != nil else { return [] }
    let counts = draw.next(0...1) == 0
    @Sendable func pooled(_ x: Naive, _ body: ([Double], Int) -> Double) -> Naive {
        let (height, width) = geometry.positions(x.shape[1], x.shape[2])
        return Naive([x.shape[0], height, width, x.shape[3]]) { index in
            let pixels = geometry.pixels(index[1], index[2], x.shape[1], x.shape[2])
            let padding = geometry.padding
            // A window that hangs over the padding too counts only what is inside of that.
            let size = geometry.pixelsWithPadding(index[1], index[2], x.shape, padding)
            return body(pixels.compactMap { $0.at.map { x[[index[0]] + $0 + [index[3]]] } }, size)
        }
    }
    let reference: @Sendable (Naive, Bool) -> Naive = { x, isMax in
        pooled(x) { found, size in
            if isMax { return found.max() ?? -.infinity }
            return found.reduce(0, +) / Double(counts ? size : found.count)
        }
    }
    return [
        PropertyCase("max pool \(geometry)", [x], isSmooth: false) {
            $0[0].maxPool2D(geometry.window)
        } is: {
            reference($0[0], true)
        },
        PropertyCase("average pool \(geometry), counting \(counts)", [x]) {
            $0[0].averagePool2D(geometry.window, countsPadding: counts)
        } is: {
            reference($0[0], false)
        },
    ]
}

extension Geometry {
    fileprivate func pixelsWithPadding(
        _ row: Int, _ column: Int, _ shape: [Int], _ padding: Padding2D
    ) -> Int {
        let top = row * stride.height
        let left = column * stride.width
        let rows = min(top + kernel.height, shape[1] + padding.top + padding.bottom) - top
        let columns = min(left + kernel.width, shape[2] + padding.left + padding.right) - left
        return rows * columns
    }
}

func resampleProperties(_ draw: inout Draw) -> [PropertyCase] {
    Op.Resample.Kind.allCases.map { kind in
        let x = draw.normal(
            [draw.pick([0, 1, 2]), draw.next(1...7), draw.next(1...7), draw.pick([0, 1, 3, 17])])
        let size = Size2D(draw.next(1...9), draw.next(1...9))
        @Sendable func weight(_ place: Int, _ source: Int, _ extent: Int, _ count: Int) -> Double {
            let (p, e, n) = (Double(place), Double(extent), Double(count))
            func tent(_ centre: Double) -> Double {
                max(0, 1 - abs(min(max(centre, 0), e - 1) - Double(source)))
            }
            switch kind {
            case .average:
                let (first, end) = (
                    Int((p * e / n).rounded(.down)), Int(((p + 1) * e / n).rounded(.up))
                )
                return (first..<end).contains(source) ? 1 / Double(end - first) : 0
            case .nearest: return Int((p * e / n).rounded(.down)) == source ? 1 : 0
            case .linear: return tent((p + 0.5) * e / n - 0.5)
            case .linearCorners: return tent(count > 1 ? p * (e - 1) / (n - 1) : 0)
            }
        }
        return PropertyCase("resample \(kind) to \(size)", [x]) {
            $0[0].resampled(kind, to: size)
        } is: { operands in
            let x = operands[0]
            let (height, width) = (x.shape[1], x.shape[2])
            return Naive([x.shape[0], size.height, size.width, x.shape[3]]) { index in
                var sum = 0.0
                for row in 0..<height {
                    for column in 0..<width {
                        sum +=
                            weight(index[1], row, height, size.height)
                            * weight(index[2], column, width, size.width)
                            * x[[index[0], row, column, index[3]]]
                    }
                }
                return sum
            }
        }
    }
}

// MARK: - Losses

private func logSoftmax(_ row: [Double]) -> [Double] {
    let largest = row.max() ?? 0
    let total = largest + log(row.reduce(0) { $0 + exp($1 - largest) })
    return row.map { $0 - total }
}

private func rows(_ x: Naive) -> [[Double]] {
    let columns = x.shape[x.shape.count - 1]
    return stride(from: 0, to: x.values.count, by: max(columns, 1)).map {
        Array(x.values[$0..<$0 + columns])
    }
}

func crossEntropyProperties(_ draw: inout Draw) -> [PropertyCase] {
    let reductions: [Reduction] = [.mean, .sum, .none]
    return reductions.map { reduction in
        let outer = draw.extents(0...2)
        let count = draw.pick([1, 2, 3, 7, 17])
        let x = draw.normal(outer + [count])
        let classes = draw.indices(outer, below: count)
        let weights = draw.positive([count])
        let smoothing = draw.pick([Float(0), 0.25])
        let ignored = draw.pick([nil, Int32(0)])
        let op = Op.CrossEntropy(
            target: .classes(classes), classWeights: weights, smoothing: smoothing,
            ignoredClass: ignored, reduction: reduction)
        return PropertyCase("cross-entropy \(reduction) \(smoothing)", [x]) {
            $0[0].crossEntropy(op)
        } is: { operands in
            let own = weights.elements.map(Double.init)
            let share = Double(smoothing)
            var (losses, divisor) = ([Double](), 0.0)
            for (row, label) in zip(rows(operands[0]), classes.elements) {
                guard label != ignored else {
                    losses.append(0)
                    continue
                }
                divisor += own[Int(label)]
                let logs = logSoftmax(row)
                let spread = zip(logs, own).reduce(0) { $0 - $1.0 * $1.1 } / Double(count)
                losses.append(
                    -(1 - share) * own[Int(label)] * logs[Int(label)] + share * spread)
            }
            var result = Naive(reduction == .none ? outer : []) { _ in
                let total = losses.reduce(0, +)
                return reduction == .mean ? total / divisor : total
            }
            if reduction == .none { result.values = losses }
            return result
        }
    }
}

func distillationProperties(_ draw: inout Draw) -> [PropertyCase] {
    let shape = draw.extents(0...2) + [draw.pick([1, 2, 3, 7, 17])]
    let (student, teacher) = (draw.normal(shape), draw.normal(shape))
    let counted = draw.indices([shape.dropLast().reduce(1, *)], below: 2).elements.map { $0 == 1 }
    return [nil, counted].map { chosen in
        PropertyCase("distillation of \(chosen == nil ? "all" : "some") rows", [student]) {
            $0[0].distillation(
                Op.Distillation(teacher: teacher, temperature: 2, rows: chosen))
        } is: { operands in
            var (total, count) = (0.0, 0.0)
            for (index, (q, p)) in zip(rows(operands[0]), rows(Naive(teacher))).enumerated()
            where chosen?[index] ?? true {
                count += 1
                let (own, taught) = (logSoftmax(q.map { $0 / 2 }), logSoftmax(p.map { $0 / 2 }))
                total += zip(own, taught).reduce(0) { $0 + exp($1.1) * ($1.1 - $1.0) }
            }
            return Naive([]) { _ in 4 * total / max(count, 1) }
        }
    }
}

// MARK: - Masks and grids

func compressionProperties(_ draw: inout Draw) -> [PropertyCase] {
    let shape = draw.extents(1...4)
    let bits = draw.bits(shape)
    let parameter = Parameter(draw.normal(shape))
    parameter.setMask(Mask(shape: Shape(shape)) { bits.elements[$0] != 0 })
    let raw = parameter.value
    let axis = draw.next(0...shape.count - 1)
    let scheme = QuantizationScheme(
        bits: 4, isSigned: true, isSymmetric: true, granularity: .channel(axis: axis))
    // Powers of two: x / scale is exact, and so are ties.
    let scales = (0..<shape[axis]).map { _ in draw.pick([Float(0.125), 0.25, 0.5]) }
    let (lowest, highest) = (Double(scheme.codes.lowerBound), Double(scheme.codes.upperBound))
    let parameters = QuantizationParameters(
        scheme: scheme, scales: scales, zeroPoints: scales.map { _ in 0 })
    return [
        PropertyCase("mask", [draw.normal(shape)]) {
            $0[0] * $0[0].tape.parameter(parameter)
        } is: { operands in
            .combine(operands[0], Naive(raw), *)
        },
        PropertyCase("fake quantization along \(axis)", [draw.normal(shape)], isSmooth: false) {
            $0[0].fakeQuantized(parameters)
        } is: { operands in
            Naive(operands[0].shape) { index in
                let scale = Double(scales[index[axis]])
                let code = (operands[0][index] / scale).rounded(.toNearestOrEven)
                return min(max(code, lowest), highest) * scale
            }
        },
    ]
}
