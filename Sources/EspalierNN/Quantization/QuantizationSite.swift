public import EspalierEngine
public import EspalierTensors

/// A place in a network where activations are quantized, with the range that it goes by.
///
/// The forward is pure: it uses the range from before the step, and the tape reports what the batch had; the trainer
/// folds that in once a step, a moving average. In evaluation mode only a tape that observes reports.
public final class QuantizationSite: Layer {
    /// How the codes are made.
    public let scheme: QuantizationScheme
    /// Lowest and highest value; infinite and the wrong way round while nothing has been seen. [2]
    public let range: Buffer
    /// The share that a new batch gets.
    public let share: Float

    /// A site that has seen nothing.
    ///
    /// - Precondition: the scheme has one scale.
    public init(_ scheme: QuantizationScheme, share: Float = 0.1) {
        require(scheme.axis == nil, "activations have one scale")
        self.scheme = scheme
        self.share = share
        range = Buffer(QuantizationSite.tensor(.empty))
    }

    /// What `range` holds.
    public var movingRange: ValueRange {
        let bounds = range.value.elements
        return ValueRange(low: bounds[0], high: bounds[1])
    }

    /// Scale and zero point of the range; nil while nothing has been seen.
    public var parameters: QuantizationParameters? {
        QuantizationParameters(scheme, covering: movingRange)
    }

    public func callAsFunction(_ x: Value) -> Value {
        x.quantized(scheme, moving: movingRange, owner: self)
    }

    public func visit(_ visitor: inout some ModuleVisitor) { visitor.visit("range", range) }

    private func fold(_ batch: ValueRange) {
        var observer = Observer(.movingAverage(share: share), from: movingRange)
        observer.observe(low: [batch.low], high: [batch.high])
        range.value = QuantizationSite.tensor(observer.range)
    }

    private static func tensor(_ range: ValueRange) -> Tensor {
        Tensor([range.low, range.high], shape: [2])
    }

    /// Folds what a tape's forward saw into the sites that it belongs to, but for those whose `range` is among the
    /// buffers to keep.
    public static func fold(
        _ ranges: [Observations.ObservedRange], keeping frozen: Set<ObjectIdentifier> = []
    ) {
        for observed in ranges {
            guard let site = observed.owner as? QuantizationSite,
                !frozen.contains(ObjectIdentifier(site.range))
            else { continue }
            site.fold(observed.range)
        }
    }
}
