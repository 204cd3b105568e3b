import CEspalierKernels
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
        let (epsilon, decay, options) = (epsilon, weightDecay, options)
        let fall = 1 + Float(state.step) * rateDecay
        step(parameters, gradients, slots: ["sum"], initial: initialSum) { name, _ in
            let own = options[name] ?? ParameterOptions()
            return .adaGrad(
                esp_adagrad(
                    rate: rate * own.rateFactor / fall, epsilon: epsilon,
                    decay: own.weightDecay ?? decay))
        }
        state.step += 1
    }
}
