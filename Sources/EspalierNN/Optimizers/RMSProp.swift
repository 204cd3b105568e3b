import CEspalierKernels
public import EspalierEngine
import EspalierKernels
import EspalierTensors

/// RMSProp (Tieleman and Hinton, 2012): g += decay * w; s = smoothing * s + (1 - smoothing) * g²;
/// w -= rate * g / (sqrt(s) + epsilon).
///
/// With momentum, what is taken off is rate * b, b = momentum * b + g / (sqrt(s) + epsilon). The centred form divides by
/// the root of the variance (Graves, "Generating sequences with recurrent neural networks", 2013).
public struct RMSProp: Optimizer {
    /// Decay of the mean square.
    public var smoothing: Float
    /// Added to the root of the mean square.
    public var epsilon: Float
    /// Added to the gradient as this times the weight.
    public var weightDecay: Float
    /// 0 keeps no state of its own.
    public var momentum: Float
    /// Whether the square of the mean gradient is taken off the mean square.
    public var isCentred: Bool
    /// Per parameter name.
    public var options: [String: ParameterOptions]
    public var state = OptimizerState()

    /// A rule at its first step.
    public init(
        smoothing: Float = 0.99, epsilon: Float = 1e-8, weightDecay: Float = 0,
        momentum: Float = 0, isCentred: Bool = false, options: [String: ParameterOptions] = [:]
    ) {
        self.smoothing = smoothing
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.momentum = momentum
        self.isCentred = isCentred
        self.options = options
    }

    public mutating func update(
        _ parameters: ParameterSet, with gradients: Gradients, rate: Float
    ) {
        let (smoothing, epsilon, decay) = (smoothing, epsilon, weightDecay)
        let (momentum, options) = (momentum, options)
        let slots = ["square", isCentred ? "mean" : nil, momentum != 0 ? "momentum" : nil]
        step(parameters, gradients, slots: slots) { name, _ in
            let own = options[name] ?? ParameterOptions()
            return .rmsProp(
                esp_rmsprop(
                    rate: rate * own.rateFactor, smoothing: smoothing, epsilon: epsilon,
                    decay: own.weightDecay ?? decay, momentum: momentum))
        }
        state.step += 1
    }
}
