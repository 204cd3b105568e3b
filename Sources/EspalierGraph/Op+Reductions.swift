package import CEspalierKernels
package import EspalierTensors

extension Op {
    /// One number for the elements along some axes.
    package struct Reduce: Operation {
        package enum Kind: Sendable, Hashable, CaseIterable {
            case sum, mean
            /// The divisor is the number of elements less the correction.
            case variance
            /// The square root of the variance.
            case deviation
            /// Ties share the gradient evenly.
            case largest, smallest
            /// The first one takes the whole gradient on a tie.
            case firstLargest, firstSmallest
            case logSumExp
            /// The square root of the sum of the squares.
            case norm
        }

        package let kind: Kind
        /// nil for all of them.
        package let axes: [Int]?
        /// Whether the axes stay, with an extent of 1.
        package let keepsAxes: Bool
        /// What the divisor of a variance lacks.
        package let correction: Float

        package init(
            _ kind: Kind, axes: [Int]?, keepsAxes: Bool = false, correction: Float = 0
        ) {
            self.kind = kind
            self.axes = axes
            self.keepsAxes = keepsAxes
            self.correction = correction
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let shape = inputs[0]
            let own = try shape.axes(axes, "reduction")
            if kind.needsElements, own.contains(where: { shape[$0] == 0 }) {
                throw ShapeError("\(kind.name): no elements along the axes \(own) of \(shape)")
            }
            return Shape(
                shape.indices.compactMap {
                    own.contains($0) ? (keepsAxes ? 1 : nil) : shape[$0]
                })
        }
    }

    /// The sum of all elements up to each along an axis.
    package struct CumulativeSum: Operation {
        package let axis: Int

        package init(axis: Int) { self.axis = axis }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            _ = try inputs[0].axes([axis], "cumulative sum")
            return inputs[0]
        }
    }

    /// (x - mean) / sqrt(variance + epsilon) over the last axes, then weight and bias; without the mean it divides by
    /// the root of the mean square. Operands: x, perhaps a weight and perhaps a bias of the last axes' shape.
    ///
    /// Ba, Kiros and Hinton, "Layer normalization", 2016; Zhang and Sennrich, "Root mean square layer normalization",
    /// NeurIPS 2019.
    package struct LayerNorm: Operation {
        /// The number of axes, counted from the last.
        package let axisCount: Int
        package let epsilon: Float
        /// Whether the mean is subtracted.
        package let isCentred: Bool

        package init(axisCount: Int = 1, epsilon: Float, isCentred: Bool = true) {
            self.axisCount = axisCount
            self.epsilon = epsilon
            self.isCentred = isCentred
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard axisCount >= 1, axisCount <= inputs[0].rank,
                inputs.dropFirst().allSatisfy({ $0 == Shape(inputs[0].suffix(axisCount)) })
            else {
                throw ShapeError(
                    "layer norm over \(axisCount) axes: operands \(inputs) do not fit")
            }
            return inputs[0]
        }
    }
}

extension Op.Reduce.Kind {
    private var line: (code: esp_reduction, name: String, onnx: String?) {
        switch self {
        case .sum: (ESP_SUM, "sum", "ReduceSum")
        case .mean: (ESP_MEAN, "mean", "ReduceMean")
        case .variance: (ESP_VARIANCE, "var", nil)
        case .deviation: (ESP_DEVIATION, "std", nil)
        case .largest: (ESP_LARGEST, "amax", "ReduceMax")
        case .smallest: (ESP_SMALLEST, "amin", "ReduceMin")
        case .firstLargest: (ESP_FIRST_LARGEST, "max_dim", "ReduceMax")
        case .firstSmallest: (ESP_FIRST_SMALLEST, "min_dim", "ReduceMin")
        case .logSumExp: (ESP_LOG_SUM_EXP, "logsumexp", "ReduceLogSumExp")
        case .norm: (ESP_NORM, "norm2", "ReduceL2")
        }
    }

    /// The kernels' name for it, whose number is the frozen one.
    package var code: esp_reduction { line.code }
    /// The frozen number.
    package var number: Int { Int(code.rawValue) }
    package var name: String { line.name }
    var onnx: String? { line.onnx }

    /// The kind of a frozen number.
    package init?(number: Int) {
        guard let kind = Self.allCases.first(where: { $0.number == number }) else {
            return nil
        }
        self = kind
    }

    /// Whether nothing has no value.
    fileprivate var needsElements: Bool {
        switch self {
        case .largest, .smallest, .firstLargest, .firstSmallest: true
        default: false
        }
    }
}

extension Shape {
    /// Axes counted from the front, in ascending order; nil stands for all.
    ///
    /// - Throws: `ShapeError` where one does not exist or comes twice.
    package func axes(_ axes: [Int]?, _ op: String) throws(ShapeError) -> [Int] {
        guard let axes else { return Array(indices) }
        guard axes.allSatisfy({ $0 >= -rank && $0 < rank }) else {
            throw ShapeError("\(op): axes \(axes) do not exist in \(self)")
        }
        let result = axes.map { $0 < 0 ? $0 + rank : $0 }.sorted()
        guard Set(result).count == result.count else {
            throw ShapeError("\(op): an axis of \(self) comes twice in \(axes)")
        }
        return result
    }
}
