import EspalierKernels
public import EspalierTensors

/// What a forward pass saw that changes what later ones do. The pass is pure: the trainer folds this in, once a step.
public struct Observations {
    /// Statistics of a batch for a layer's running ones.
    public struct BatchStatistics {
        /// The layer's running statistics.
        public let owner: AnyObject
        /// Mean of each channel. [C]
        public let mean: Tensor
        /// Unbiased variance of each channel. [C]
        public let variance: Tensor
    }

    /// The range of a batch where its values are quantized.
    public struct ObservedRange {
        /// What holds the moving range.
        public let owner: AnyObject
        /// Of the values before they are quantized.
        public let range: ValueRange
    }

    /// What batch normalization saw.
    public internal(set) var statistics: [BatchStatistics] = []
    /// What was seen where values are quantized.
    public internal(set) var ranges: [ObservedRange] = []

    /// Nothing seen.
    public init() {}

    mutating func append(_ other: Observations) {
        statistics += other.statistics
        ranges += other.ranges
    }

    /// What a batch would have shown whose parts, with their shares of it, showed these, layer by layer.
    ///
    /// A mean is that of the whole; a variance is that within the parts and between their means.
    public init(combining parts: [(share: Float, Observations)]) {
        guard let first = parts.first?.1, parts.count > 1 else {
            self = parts.first?.1 ?? Observations()
            return
        }
        require(
            parts.allSatisfy {
                $0.1.statistics.count == first.statistics.count
                    && $0.1.ranges.count == first.ranges.count
            }, "parts of a batch took different ways")
        for index in first.statistics.indices {
            let own = parts.map { ($0.share, $0.1.statistics[index]) }
            func sum(_ value: (BatchStatistics) -> Tensor) -> Tensor {
                own.reduce(into: Tensor.zeros(first.statistics[index].mean.shape)) {
                    Kernels.add(value($1.1), times: $1.0, to: &$0)
                }
            }
            let mean = sum(\.mean)
            let square = sum { Kernels.add($0.variance, Kernels.multiply($0.mean, $0.mean)) }
            var variance = square
            Kernels.add(Kernels.multiply(mean, mean), times: -1, to: &variance)
            // Rounding must not take it below what a variance can be.
            statistics.append(
                BatchStatistics(
                    owner: first.statistics[index].owner, mean: mean,
                    variance: Kernels.relu(variance)))
        }
        for index in first.ranges.indices {
            var range = ValueRange.empty
            for part in parts {
                let seen = part.1.ranges[index].range
                range = ValueRange(low: min(range.low, seen.low), high: max(range.high, seen.high))
            }
            ranges.append(ObservedRange(owner: first.ranges[index].owner, range: range))
        }
    }
}
