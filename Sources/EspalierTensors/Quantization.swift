/// How numbers become codes of a few bits: data, no state.
public struct QuantizationScheme: Sendable, Hashable {
    /// What shares one scale.
    public enum Granularity: Sendable, Hashable {
        /// The whole tensor.
        case tensor
        /// Each index of an axis, such as the outputs of a weight.
        case channel(axis: Int)
    }

    /// Of a code.
    public var bits: Int
    /// Whether codes go below 0.
    public var isSigned: Bool
    /// Whether 0 is the middle of the range: the zero point is 0, and the lowest signed code is not used.
    public var isSymmetric: Bool
    /// What shares one scale.
    public var granularity: Granularity

    /// A scheme of 2 to 8 bits.
    public init(bits: Int, isSigned: Bool, isSymmetric: Bool, granularity: Granularity) {
        require((2...8).contains(bits), "codes of \(bits) bits")
        require(!isSymmetric || isSigned, "symmetric codes are signed")
        self.bits = bits
        self.isSigned = isSigned
        self.isSymmetric = isSymmetric
        self.granularity = granularity
    }

    /// Weights of a layer: symmetric, one scale an output unless told otherwise.
    public static func weights(
        bits: Int, per granularity: Granularity = .channel(axis: 0)
    ) -> QuantizationScheme {
        QuantizationScheme(bits: bits, isSigned: true, isSymmetric: true, granularity: granularity)
    }

    /// Activations: unsigned with a zero point, one scale.
    public static func activations(bits: Int) -> QuantizationScheme {
        QuantizationScheme(bits: bits, isSigned: false, isSymmetric: false, granularity: .tensor)
    }

    /// The axis with a scale for each index, nil for one scale.
    public var axis: Int? {
        if case .channel(let axis) = granularity { return axis }
        return nil
    }

    /// Whether each index of the first axis has one scale, and code 0 is the value 0.
    package var isPerOutput: Bool { isSymmetric && (axis ?? 0) == 0 }

    /// The codes in use.
    public var codes: ClosedRange<Int32> {
        let half = Int32(1) << Int32(bits - 1)
        if !isSigned { return 0...(2 * half - 1) }
        return (isSymmetric ? 1 - half : -half)...(half - 1)
    }

    /// Scale and zero point for values between `low` and `high`.
    ///
    /// An affine range is widened to contain 0, so that 0 has a code. Where all values are 0, or too small for a scale,
    /// the scale is 1.
    public func parameters(low: Float, high: Float) -> (scale: Float, zeroPoint: Int32) {
        let codes = codes
        if isSymmetric {
            let scale = max(low.magnitude, high.magnitude) / Float(codes.upperBound)
            return (scale > 0 ? scale : 1, 0)
        }
        let (low, high) = (min(low, 0), max(high, 0))
        let scale = (high - low) / Float(codes.upperBound - codes.lowerBound)
        guard scale > 0 else { return (1, codes.lowerBound) }
        let zero = Rounding.nearest(Float(codes.lowerBound) - Rounding.nearest(low / scale))
        let clipped = min(max(zero, Float(codes.lowerBound)), Float(codes.upperBound))
        return (scale, Int32(clipped))
    }
}

/// The one rounding rule of everything that makes codes: to the nearest, ties to even. The C kernels say the same.
public enum Rounding {
    /// The nearest whole number, ties to even.
    public static func nearest(_ x: Float) -> Float { x.rounded(.toNearestOrEven) }

    /// The code of a value: rounded before the zero point is added, then cut off at the range.
    public static func code(
        _ x: Float, scale: Float, zeroPoint: Int32, codes: ClosedRange<Int32>
    ) -> Int32 {
        let rounded = nearest(x / scale) + Float(zeroPoint)
        // A NaN becomes the lowest code.
        guard rounded > Float(codes.lowerBound) else { return codes.lowerBound }
        return rounded >= Float(codes.upperBound) ? codes.upperBound : Int32(rounded)
    }

    /// The code that an integer sum becomes: one multiplication, no fused addition.
    public static func requantized(
        _ sum: Int32, scale: Float, zeroPoint: Int32, codes: ClosedRange<Int32>
    ) -> Int32 {
        let low = Float(codes.lowerBound - zeroPoint)
        let high = Float(codes.upperBound - zeroPoint)
        return Int32(nearest(min(max(Float(sum) * scale, low), high))) + zeroPoint
    }
}

/// Scales and zero points of a tensor under a scheme.
public struct QuantizationParameters: Sendable, Hashable, Codable {
    /// How the codes are made.
    public let scheme: QuantizationScheme
    /// One, or one a channel.
    public let scales: [Float]
    /// Likewise.
    public let zeroPoints: [Int32]

    /// Parameters as given.
    ///
    /// - Precondition: there are as many zero points as scales, and scales are above 0.
    public init(scheme: QuantizationScheme, scales: [Float], zeroPoints: [Int32]) {
        require(
            scales.count == zeroPoints.count,
            "\(scales.count) scales, \(zeroPoints.count) zero points")
        require(scales.allSatisfy { $0 > 0 && $0.isFinite }, "a scale is not above 0")
        self.scheme = scheme
        self.scales = scales
        self.zeroPoints = zeroPoints
    }

    /// Parameters for values between the bounds of each channel.
    public init(scheme: QuantizationScheme, low: [Float], high: [Float]) {
        let both = zip(low, high).map { scheme.parameters(low: $0, high: $1) }
        self.init(scheme: scheme, scales: both.map(\.scale), zeroPoints: both.map(\.zeroPoint))
    }
}

/// Finds the range of values that pass by.
public struct Observer: Sendable, Hashable, Codable {
    /// How batches are combined.
    public enum Rule: Sendable, Hashable, Codable {
        /// The extremes of all.
        case extremes
        /// m += share * (new - m); the first batch sets it.
        case movingAverage(share: Float)
    }

    /// How batches are combined.
    public var rule: Rule
    /// The axis with a range for each index; nil for one range.
    public var axis: Int?
    /// The lowest value of each channel, so far.
    public private(set) var low: [Float] = []
    /// The highest.
    public private(set) var high: [Float] = []

    /// An observer that has seen nothing.
    public init(_ rule: Rule, axis: Int? = nil) {
        self.rule = rule
        self.axis = axis
    }

    /// An observer of one range that goes on from it.
    public init(_ rule: Rule, from range: ValueRange) {
        self.init(rule)
        if range.isValid { (low, high) = ([range.low], [range.high]) }
    }

    /// The only range; empty where nothing has been seen.
    ///
    /// - Precondition: there is no axis.
    public var range: ValueRange {
        require(axis == nil, "a range for each index of axis \(axis ?? 0)")
        return low.isEmpty ? .empty : ValueRange(low: low[0], high: high[0])
    }

    /// Takes a batch into account. An empty one changes nothing.
    public mutating func observe(_ x: Tensor) {
        guard x.count > 0 else { return }
        let (low, high) = x.extremes(axis: axis)
        observe(low: low, high: high)
    }

    /// Takes a batch into account whose ranges are known.
    public mutating func observe(low: [Float], high: [Float]) {
        guard !self.low.isEmpty else {
            (self.low, self.high) = (low, high)
            return
        }
        for channel in low.indices {
            switch rule {
            case .extremes:
                self.low[channel] = min(self.low[channel], low[channel])
                self.high[channel] = max(self.high[channel], high[channel])
            case .movingAverage(let share):
                self.low[channel] += share * (low[channel] - self.low[channel])
                self.high[channel] += share * (high[channel] - self.high[channel])
            }
        }
    }
}

extension Tensor {
    /// Lowest and highest value, of all or of each index of an axis.
    package func extremes(axis: Int?) -> (low: [Float], high: [Float]) {
        guard axis != nil else { return extremesOfAll() }
        let (channels, inner) = channelLayout(axis: axis)
        var low = [Float](repeating: .infinity, count: channels)
        var high = [Float](repeating: -.infinity, count: channels)
        let values = span
        for run in 0..<values.count / max(inner, 1) {
            let channel = run % channels
            for index in run * inner..<(run + 1) * inner {
                low[channel] = min(low[channel], values[index])
                high[channel] = max(high[channel], values[index])
            }
        }
        return (low, high)
    }

    // A range is found at every step for every site: eight elements at a time.
    private func extremesOfAll() -> (low: [Float], high: [Float]) {
        var low = SIMD8<Float>(repeating: .infinity)
        var high = SIMD8<Float>(repeating: -.infinity)
        let values = span
        let whole = values.count / 8 * 8
        for base in stride(from: 0, to: whole, by: 8) {
            let x = SIMD8(
                values[base], values[base + 1], values[base + 2], values[base + 3],
                values[base + 4], values[base + 5], values[base + 6], values[base + 7])
            low.replace(with: x, where: x .< low)
            high.replace(with: x, where: x .> high)
        }
        for index in whole..<values.count {
            low[0] = min(low[0], values[index])
            high[0] = max(high[0], values[index])
        }
        return ([low.min()], [high.max()])
    }

    /// The number of channels along an axis, and how many elements of one lie side by side.
    package func channelLayout(axis: Int?) -> (channels: Int, inner: Int) {
        guard let axis else { return (1, max(count, 1)) }
        let index = shape.normalized(axis: axis)
        return (shape[index], shape.dropFirst(index + 1).reduce(1, *))
    }
}
