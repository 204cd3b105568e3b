package import EspalierGraph
import EspalierKernels
public import EspalierTensors

// Functions of elements as methods of values.
extension Value {
    /// A function of each element.
    package func applying(_ function: Op.Unary.Function) -> Value {
        tape.apply(.unary(Op.Unary(function)), self)
    }

    /// A function of the elements of two values, with broadcasting.
    package static func combining(_ function: Op.Binary.Function, _ a: Value, _ b: Value) -> Value {
        a.tape.apply(.binary(Op.Binary(function)), a, b)
    }

    /// a - b with broadcasting.
    public static func - (a: Value, b: Value) -> Value { combining(.subtract, a, b) }

    /// a b with broadcasting.
    public static func * (a: Value, b: Value) -> Value { combining(.multiply, a, b) }

    /// a / b with broadcasting.
    public static func / (a: Value, b: Value) -> Value { combining(.divide, a, b) }

    /// -x
    public static prefix func - (x: Value) -> Value { x.applying(.negate) }

    /// The larger of each two elements, with broadcasting; on a tie each side takes half of the gradient.
    public static func maximum(_ a: Value, _ b: Value) -> Value { combining(.maximum, a, b) }

    /// The smaller of each two elements, with broadcasting; on a tie each side takes half of the gradient.
    public static func minimum(_ a: Value, _ b: Value) -> Value { combining(.minimum, a, b) }

    /// Every element raised to the same power.
    public func raised(to exponent: Float) -> Value { applying(.power(exponent)) }

    /// Every element raised to the power of one of another value, with broadcasting.
    public func raised(to exponent: Value) -> Value { Value.combining(.power, self, exponent) }

    /// |x|, with gradient 0 at 0
    public func abs() -> Value { applying(.abs) }

    /// e to the power of x
    public func exp() -> Value { applying(.exp) }

    /// The natural logarithm.
    public func log() -> Value { applying(.log) }

    /// The square root.
    public func sqrt() -> Value { applying(.sqrt) }

    /// x²
    public func squared() -> Value { applying(.square) }

    /// The hyperbolic tangent.
    public func tanh() -> Value { applying(.tanh) }

    /// 1 / (1 + exp(-x))
    public func sigmoid() -> Value { applying(.sigmoid) }

    /// x Φ(x), or its form with tanh for erf.
    public func gelu(approximately: Bool = false) -> Value {
        applying(approximately ? .geluTanh : .gelu)
    }

    /// x sigmoid(x)
    public func silu() -> Value { applying(.silu) }

    /// log(1 + exp(beta x)) / beta
    public func softplus(beta: Float = 1) -> Value { applying(.softplus(beta: beta)) }

    /// Elements below `low` raised to it, those above `high` lowered; the gradient passes strictly between.
    public func clamped(low: Float = -.infinity, high: Float = .infinity) -> Value {
        applying(.clamp(low, high))
    }

    /// a where the condition is not 0, else b, with broadcasting.
    public static func select(_ condition: Value, _ a: Value, _ b: Value) -> Value {
        condition.tape.apply(.select(Op.Select()), condition, a, b)
    }

    /// A constant where a mask is not 0. The mask can be broadcast to this value.
    public func filled(with value: Float, where mask: Value) -> Value {
        tape.apply(.fill(Op.Fill(value: value)), self, mask)
    }
}

// MARK: - Reductions

extension Value {
    /// One number for the elements along some axes; nil stands for all axes.
    package func reduced(
        _ kind: Op.Reduce.Kind, axes: [Int]? = nil, keepsAxes: Bool = false, correction: Float = 0
    ) -> Value {
        tape.apply(
            .reduce(Op.Reduce(kind, axes: axes, keepsAxes: keepsAxes, correction: correction)), self
        )
    }

    /// The sum along some axes, or of everything.
    public func sum(axes: [Int]? = nil, keepsAxes: Bool = false) -> Value {
        reduced(.sum, axes: axes, keepsAxes: keepsAxes)
    }

    /// The mean along some axes, or of everything.
    public func mean(axes: [Int]? = nil, keepsAxes: Bool = false) -> Value {
        reduced(.mean, axes: axes, keepsAxes: keepsAxes)
    }

    /// The variance along some axes, or of everything; its divisor lacks the correction.
    public func variance(axes: [Int]? = nil, keepsAxes: Bool = false, correction: Float = 0)
        -> Value
    {
        reduced(.variance, axes: axes, keepsAxes: keepsAxes, correction: correction)
    }

    /// The largest element along some axes, or of everything; ties share the gradient.
    public func largest(axes: [Int]? = nil, keepsAxes: Bool = false) -> Value {
        reduced(.largest, axes: axes, keepsAxes: keepsAxes)
    }

    /// The logarithm of the sum of the exponentials along some axes, or of everything.
    public func logSumExp(axes: [Int]? = nil, keepsAxes: Bool = false) -> Value {
        reduced(.logSumExp, axes: axes, keepsAxes: keepsAxes)
    }

    /// The sum of all elements up to each along an axis.
    public func cumulativeSum(axis: Int) -> Value {
        tape.apply(.cumulativeSum(Op.CumulativeSum(axis: axis)), self)
    }

    /// The `count` largest elements along the last axis, the largest first, and where they are. [..., C] -> [..., count]
    public func largest(count: Int) -> (values: Value, indices: IndexTensor) {
        let indices = Kernels.largestIndices(tensor, count: count)
        return (gathered(axis: -1, indices), indices)
    }

    /// Layer normalization over the last axes. [..., D], [D], [D] -> [..., D]
    public func layerNorm(
        weight: Value? = nil, bias: Value? = nil, axisCount: Int = 1, epsilon: Float = 1e-5
    ) -> Value {
        normalized(weight, bias, Op.LayerNorm(axisCount: axisCount, epsilon: epsilon))
    }

    /// Division by the root of the mean square over the last axes. [..., D], [D] -> [..., D]
    public func rmsNorm(weight: Value? = nil, axisCount: Int = 1, epsilon: Float = 1e-6) -> Value {
        normalized(
            weight, nil, Op.LayerNorm(axisCount: axisCount, epsilon: epsilon, isCentred: false))
    }

    /// Layer norm of x + residual, as one op where gradients will be asked for.
    ///
    /// An evaluation is recorded as an addition and a layer norm, so that exported graphs need nothing else.
    public func residualNorm(
        _ residual: Value, weight: Value? = nil, bias: Value? = nil, epsilon: Float = 1e-5
    ) -> Value {
        guard tape.mode == .training, shape == residual.shape else {
            return (self + residual).layerNorm(weight: weight, bias: bias, epsilon: epsilon)
        }
        require(weight != nil || bias == nil, "a layer norm with a bias has a weight")
        let op = Op.ResidualNorm(norm: Op.LayerNorm(epsilon: epsilon))
        return tape.apply(
            .residualNorm(op), [self, residual] + [weight, bias].compactMap(\.self)
        ).value
    }

    private func normalized(_ weight: Value?, _ bias: Value?, _ op: Op.LayerNorm) -> Value {
        require(weight != nil || bias == nil, "a layer norm with a bias has a weight")
        return tape.apply(.layerNorm(op), [self] + [weight, bias].compactMap(\.self)).value
    }

    /// Normalization of each example's groups of channels over all their positions. [N, ..., C], [C], [C]
    ///
    /// With as many groups as channels it is instance normalization. Wu and He, "Group normalization", ECCV 2018.
    public func groupNorm(
        groups: Int, weight: Value? = nil, bias: Value? = nil, epsilon: Float = 1e-5
    ) -> Value {
        let channels = shape.last ?? 0
        require(
            shape.rank >= 2 && groups > 0 && channels % groups == 0,
            "\(groups) groups of the channels of \(shape)")
        let positions = shape.dropFirst().dropLast().reduce(1, *)
        // A group is a row: [N, groups, positions, channels of a group].
        let rows = reshaped(to: [shape[0], positions, groups, channels / groups])
            .permuted([0, 2, 1, 3])
        var y = rows.layerNorm(axisCount: 2, epsilon: epsilon).permuted([0, 2, 1, 3])
            .reshaped(to: Array(shape))
        if let weight { y = y * weight }
        if let bias { y = y + bias }
        return y
    }
}
