import CEspalierKernels
public import EspalierEngine
import EspalierKernels
import EspalierTensors

/// Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019):
/// w *= 1 - rate * decay; w -= rate * m̂ / (sqrt(v̂) + epsilon) with bias-corrected moments.
public struct AdamW: Optimizer {
    /// Decay of the first moment.
    public var beta1: Float
    /// Decay of the second moment.
    public var beta2: Float
    /// Added to the root of the second moment.
    public var epsilon: Float
    /// Multiplies the weight and the rate.
    public var weightDecay: Float
    /// Per parameter name.
    public var options: [String: ParameterOptions]
    public var state = OptimizerState()
    public var momentum: Float {
        get { beta1 }
        set { beta1 = newValue }
    }

    /// A rule at its first step.
    public init(
        beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0.01,
        options: [String: ParameterOptions] = [:]
    ) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.options = options
    }

    public mutating func update(
        _ parameters: ParameterSet, with gradients: Gradients, rate: Float
    ) {
        state.step += 1
        let (beta1, beta2, epsilon, decay, options) = (beta1, beta2, epsilon, weightDecay, options)
        let correction = MomentCorrection(beta1: beta1, beta2: beta2, step: state.step)
        step(parameters, gradients, slots: ["first", "second"]) { name, _ in
            let own = options[name] ?? ParameterOptions()
            let rate = Double(rate * own.rateFactor)
            return .adamW(
                esp_adamw(
                    beta1: beta1, beta2: beta2, epsilon: epsilon,
                    step: Float(rate / correction.first), root: correction.root,
                    keep: Float(1 - rate * Double(own.weightDecay ?? decay))))
        }
    }
}
