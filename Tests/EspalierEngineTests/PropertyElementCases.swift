import EspalierEngine
import EspalierGraph
import EspalierTensors
import Foundation

// Functions of elements and reductions at random shapes.

private func truth(_ function: Op.Unary.Function, _ x: Double) -> Double {
    switch function {
    case .abs: abs(x)
    case .negate: -x
    case .exp: exp(x)
    case .expm1: expm1(x)
    case .log: log(x)
    case .log1p: log1p(x)
    case .sqrt: x.squareRoot()
    case .rsqrt: 1 / x.squareRoot()
    case .reciprocal: 1 / x
    case .square: x * x
    case .sin: sin(x)
    case .cos: cos(x)
    case .tanh: tanh(x)
    case .sigmoid: 1 / (1 + exp(-x))
    case .erf: erf(x)
    case .gelu: x / 2 * (1 + erf(x / 2.0.squareRoot()))
    case .geluTanh:
        x / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .silu: x / (1 + exp(-x))
    case .hardSwish: x * min(max(x + 3, 0), 6) / 6
    case .softplus(let beta): log1p(exp(Double(beta) * x)) / Double(beta)
    case .elu(let alpha): x > 0 ? x : Double(alpha) * expm1(x)
    case .leakyReLU(let slope): x > 0 ? x : Double(slope) * x
    case .power(let exponent): pow(x, Double(exponent))
    case .clamp(let low, let high): min(max(x, Double(low)), Double(high))
    }
}

private func isSmooth(_ function: Op.Unary.Function) -> Bool {
    switch function {
    case .abs, .hardSwish, .elu, .leakyReLU, .clamp: false
    default: true
    }
}

func unaryProperties(_ draw: inout Draw) -> [PropertyCase] {
    Op.Unary.Function.all.map { function in
        let shape = draw.extents(0...4)
        let x: Tensor =
            switch function {
            case .log, .log1p, .sqrt, .rsqrt, .reciprocal, .power: draw.positive(shape)
            default: draw.normal(shape)
            }
        return PropertyCase("\(function)", [x], isSmooth: isSmooth(function)) {
            $0[0].applying(function)
        } is: {
            $0[0].map { truth(function, $0) }
        }
    }
}

private func truth(_ function: Op.Binary.Function, _ a: Double, _ b: Double) -> Double {
    switch function {
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    case .power: pow(a, b)
    case .maximum: max(a, b)
    case .minimum: min(a, b)
    }
}

func binaryProperties(_ draw: inout Draw) -> [PropertyCase] {
    Op.Binary.Function.all.map { function in
        let (a, b) = draw.pair(0...4)
        let needsPositive = function == .divide || function == .power
        let inputs =
            needsPositive
            ? [draw.positive(a), draw.positive(b)] : [draw.normal(a), draw.normal(b)]
        let isSmooth = function != .maximum && function != .minimum
        return PropertyCase(function.name, inputs, isSmooth: isSmooth) {
            .combining(function, $0[0], $0[1])
        } is: {
            .combine($0[0], $0[1]) { truth(function, $0, $1) }
        }
    }
}

func plainProperties(_ draw: inout Draw) -> [PropertyCase] {
    let (a, b) = draw.pair(0...5)
    let factor = Float(draw.next(-20...20)) / 8
    let keep = draw.bits(draw.extents(0...4))
    let kept = Array(keep.shape)
    return [
        PropertyCase("add", [draw.normal(a), draw.normal(b)]) {
            $0[0] + $0[1]
        } is: {
            .combine($0[0], $0[1], +)
        },
        PropertyCase("scale", [draw.normal(draw.extents(0...4))]) {
            $0[0].scaled(by: factor)
        } is: {
            $0[0].map { $0 * Double(factor) }
        },
        PropertyCase("relu", [draw.normal(draw.extents(0...4))], isSmooth: false) {
            $0[0].relu()
        } is: {
            $0[0].map { max($0, 0) }
        },
        PropertyCase("dropout", [draw.normal(kept)]) {
            $0[0].dropout(Op.Dropout(probability: 0.2, kept: .given(keep)))
        } is: {
            .combine($0[0], Naive(keep)) { $0 * $1 / 0.8 }
        },
        // Without a mask of one's own each element is dropped or scaled.
        PropertyCase("drawn dropout", [draw.positive(kept)]) {
            let y = $0[0].dropout(0.3)
            return y * ($0[0].scaled(by: 1 / 0.7) - y)
        } is: {
            $0[0].map { _ in 0 }
        },
    ]
}

func choiceProperties(_ draw: inout Draw) -> [PropertyCase] {
    let shape = draw.extents(0...4)
    let (condition, a, b) = (
        draw.bits(draw.narrowed(shape)), draw.normal(draw.narrowed(shape)),
        draw.normal(draw.narrowed(shape))
    )
    let x = draw.normal(draw.extents(0...4))
    let hidden = draw.bits(draw.narrowed(Array(x.shape)))
    return [
        PropertyCase("select", [a, b]) {
            .select($0[0].tape.input(condition), $0[0], $0[1])
        } is: { operands in
            let condition = Naive(condition)
            let shape = Naive.broadcast([condition.shape, operands[0].shape, operands[1].shape])
            return Naive(shape) { condition[$0] != 0 ? operands[0][$0] : operands[1][$0] }
        },
        PropertyCase("fill", [x]) {
            $0[0].filled(with: -3, where: $0[0].tape.input(hidden))
        } is: { operands in
            let hidden = Naive(hidden)
            return Naive(operands[0].shape) { hidden[$0] != 0 ? -3 : operands[0][$0] }
        },
    ]
}

func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(x.count) }

func variance(_ x: [Double], _ correction: Double) -> Double {
    let middle = mean(x)
    return x.reduce(0) { $0 + ($1 - middle) * ($1 - middle) } / (Double(x.count) - correction)
}

private func truth(_ kind: Op.Reduce.Kind, _ x: [Double]) -> Double {
    switch kind {
    case .sum: return x.reduce(0, +)
    case .mean: return mean(x)
    case .variance: return variance(x, 0)
    case .deviation: return variance(x, 0).squareRoot()
    case .largest, .firstLargest: return x.max() ?? .nan
    case .smallest, .firstSmallest: return x.min() ?? .nan
    case .logSumExp:
        let largest = x.max() ?? -.infinity
        return largest.isInfinite
            ? largest : largest + log(x.reduce(0) { $0 + exp($1 - largest) })
    case .norm: return x.reduce(0) { $0 + $1 * $1 }.squareRoot()
    }
}

func reduceProperties(_ draw: inout Draw) -> [PropertyCase] {
    Op.Reduce.Kind.allCases.compactMap { kind in
        let x = draw.normal(draw.extents(0...4))
        let chosen = x.shape.indices.filter { _ in draw.next(0...1) == 0 }
        let axes: [Int]? = draw.next(0...3) == 0 ? nil : chosen
        let keepsAxes = draw.next(0...1) == 0
        let op = Op.Reduce(kind, axes: axes, keepsAxes: keepsAxes)
        // The largest of nothing is refused.
        guard (try? op.outputShape([x.shape])) != nil else { return nil }
        // A single element has a deviation of 0, where the root has no slope.
        let count = (axes ?? Array(x.shape.indices)).reduce(1) { $0 * x.shape[$1] }
        let isSmooth: Bool =
            switch kind {
            case .largest, .smallest, .firstLargest, .firstSmallest: false
            case .deviation, .norm: count > 2
            default: true
            }
        return PropertyCase("\(kind) along \(axes ?? [-1])", [x], isSmooth: isSmooth) {
            $0[0].reduced(kind, axes: axes, keepsAxes: keepsAxes)
        } is: { operands in
            let own = axes ?? Array(operands[0].shape.indices)
            let result = operands[0].reduced(own) { truth(kind, $0) }
            let shape = operands[0].shape.indices.filter { !own.contains($0) }
                .map { operands[0].shape[$0] }
            return keepsAxes ? result : result.reshaped(shape)
        }
    }
}

func scanProperties(_ draw: inout Draw) -> [PropertyCase] {
    let x = draw.normal(draw.extents(1...4))
    let axis = draw.next(0...x.shape.rank - 1)
    let soft = draw.normal(draw.extents(1...4))
    let softAxis = draw.next(0...soft.shape.rank - 1)
    return [
        PropertyCase("cumulative sum along \(axis)", [x]) {
            $0[0].cumulativeSum(axis: axis)
        } is: { operands in
            Naive(operands[0].shape) { index in
                (0...index[axis]).reduce(0) {
                    var before = index
                    before[axis] = $1
                    return $0 + operands[0][before]
                }
            }
        },
        PropertyCase("softmax along \(softAxis)", [soft]) {
            $0[0].softmax(axis: softAxis)
        } is: { operands in
            let total = operands[0].reduced([softAxis]) { truth(.logSumExp, $0) }
            return .combine(operands[0], total) { exp($0 - $1) }
        },
        PropertyCase("log softmax along \(softAxis)", [soft]) {
            $0[0].logSoftmax(axis: softAxis)
        } is: { operands in
            .combine(operands[0], operands[0].reduced([softAxis]) { truth(.logSumExp, $0) }, -)
        },
    ]
}

func normProperties(_ draw: inout Draw) -> [PropertyCase] {
    let x = draw.normal(draw.extents(1...4))
    let axisCount = draw.next(1...x.shape.rank)
    let own = Array(x.shape.suffix(axisCount))
    let (weight, bias) = (draw.normal(own), draw.normal(own))
    let axes = Array(x.shape.indices.suffix(axisCount))
    let batch = draw.normal(draw.extents(1...4))
    let channels = [batch.shape[batch.shape.rank - 1]]
    let outer = Array(batch.shape.indices.dropLast())
    let epsilon = 0.01
    return [
        PropertyCase("layer norm over \(axisCount)", [x, weight, bias]) {
            $0[0].layerNorm(
                weight: $0[1], bias: $0[2], axisCount: axisCount, epsilon: Float(epsilon))
        } is: { operands in
            let middle = operands[0].reduced(axes, mean)
            let scale = operands[0].reduced(axes) { 1 / (variance($0, 0) + epsilon).squareRoot() }
            return Naive(operands[0].shape) {
                (operands[0][$0] - middle[$0]) * scale[$0] * operands[1][$0] + operands[2][$0]
            }
        },
        PropertyCase("root mean square norm over \(axisCount)", [x, weight]) {
            $0[0].rmsNorm(weight: $0[1], axisCount: axisCount, epsilon: Float(epsilon))
        } is: { operands in
            let scale = operands[0].reduced(axes) {
                1 / (mean($0.map { $0 * $0 }) + epsilon).squareRoot()
            }
            return Naive(operands[0].shape) { operands[0][$0] * scale[$0] * operands[1][$0] }
        },
        PropertyCase("batch norm", [batch, draw.normal(channels), draw.normal(channels)]) {
            $0[0].batchNorm(
                weight: $0[1], bias: $0[2],
                running: Op.BatchNorm.Moments(
                    mean: .zeros([0]), variance: .zeros([0])), epsilon: Float(epsilon),
                owner: $0[0].tape)
        } is: { operands in
            let middle = operands[0].reduced(outer, mean)
            let scale = operands[0].reduced(outer) { 1 / (variance($0, 0) + epsilon).squareRoot() }
            return Naive(operands[0].shape) {
                (operands[0][$0] - middle[$0]) * scale[$0] * operands[1][$0] + operands[2][$0]
            }
        },
    ]
}
