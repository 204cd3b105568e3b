public import EspalierEngine
import EspalierKernels
import EspalierTensors

/// AdaGrad (Duchi, Hazan and Singer, JMLR 2011): g += decay * w; s += g²; w -= rate * g / (sqrt(s) + epsilon), the rate
/// being divided by 1 + rateDecay * steps done.
public struct AdaGrad: Optimizer {
    /// How fast the rate falls.
    public var rateDecay: Float
    /// Added to the gradient as this times the weight.
    public var weightDecay: Float
    /// What the sum of squares begins with.
    public var initialSum: Float
    /// Added to the root of the sum.
    public var epsilon: Float
    /// Per parameter name.
    public var options: [String: ParameterOptions]
    public var state = OptimizerState()
    /// It has none: always 0.
    public var momentum: Float {
        get { 0 }
        set {}
    }

    /// A rule at its first step.
    public init(
        rateDecay: Float = 0, weightDecay: Float = 0, initialSum: Float = 0,
        epsilon: Float = 1e-10, options: [String: ParameterOptions] = [:]
    ) {
        self.rateDecay = rateDecay
        self.weightDecay = weightDecay
        self.initialSum = initialSum
        self.epsilon = epsilon
        self.options = options
    }

    public mutating func update(
        _ parameters: ParameterSet, with gradients: Gradients, rate: Float
    ) {
        for entry in parameters.entries where entry.parameter.isTrainable {
            guard let gradient = gradients[entry.parameter] else { continue }
            let own = options[entry.name] ?? ParameterOptions()
            let isFirst = state.slots["sum"]?[entry.name] == nil
            var sum =
                isFirst
                ? Tensor(repeating: initialSum, like: gradient)
                : state.take("sum", entry.name, like: gradient)
            entry.parameter.update {
                Kernels.adaGrad(
                    rate: rate * own.rateFactor / (1 + Float(state.step) * rateDecay),
                    epsilon: epsilon, decay: own.weightDecay ?? weightDecay, gradient: gradient,
                    value: &$0, sum: &sum)
            }
            state.put("sum", entry.name, sum, entry.parameter.mask)
        }
        state.step += 1
    }
}
