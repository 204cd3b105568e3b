/// Between which bounds values lie.
public struct ValueRange: Sendable, Hashable {
    /// The lowest.
    public var low: Float
    /// The highest.
    public var high: Float

    /// A range as given.
    public init(low: Float, high: Float) {
        self.low = low
        self.high = high
    }

    /// The range of no values: any other is larger.
    public static let empty = ValueRange(low: .infinity, high: -.infinity)

    /// Whether it has bounds that values can lie between.
    public var isValid: Bool { low.isFinite && high.isFinite && low <= high }
}

extension Tensor {
    /// The range of all values; those that are not numbers do not count.
    public var range: ValueRange {
        let (low, high) = extremes(axis: nil)
        return ValueRange(low: low[0], high: high[0])
    }
}

extension QuantizationParameters {
    /// Parameters for values within a range; nil where no scale covers it, as it has no or infinite bounds.
    ///
    /// - Precondition: the scheme has one scale.
    public init?(_ scheme: QuantizationScheme, covering range: ValueRange) {
        require(scheme.axis == nil, "one range for a scale a channel")
        self.init(scheme, [range])
    }

    /// Parameters that cover all values of a tensor; nil where one is not finite.
    public init?(_ scheme: QuantizationScheme, covering values: Tensor) {
        guard values.firstNonFinite == nil else { return nil }
        let (low, high) = values.extremes(axis: scheme.axis)
        self.init(scheme, zip(low, high).map { ValueRange(low: $0.0, high: $0.1) })
    }

    private init?(_ scheme: QuantizationScheme, _ ranges: [ValueRange]) {
        guard ranges.allSatisfy(\.isValid) else { return nil }
        let both = ranges.map { scheme.parameters(low: $0.low, high: $0.high) }
        // Two finite bounds may lie too far apart.
        guard both.allSatisfy({ $0.scale.isFinite }) else { return nil }
        self.init(scheme: scheme, scales: both.map(\.scale), zeroPoints: both.map(\.zeroPoint))
    }
}
