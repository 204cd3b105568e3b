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
        for entry in parameters.entries where entry.parameter.isTrainable {
            guard let gradient = gradients[entry.parameter] else { continue }
            let own = options[entry.name] ?? ParameterOptions()
            var square = state.take("square", entry.name, like: gradient)
            var mean: Tensor?
            if isCentred { mean = state.take("mean", entry.name, like: gradient) }
            let direction = Kernels.rmsDirection(
                smoothing: smoothing, epsilon: epsilon, decay: own.weightDecay ?? weightDecay,
                gradient: gradient, value: entry.parameter.value, square: &square, mean: &mean)
            // The rest is a step of gradient descent along the direction.
            let rule = esp_sgd(
                rate: rate * own.rateFactor, momentum: momentum, gain: 1, decay: 0,
                nesterov: false)
            var buffer: Tensor?
            if momentum != 0 { buffer = state.take("momentum", entry.name, like: gradient) }
            entry.parameter.update {
                Kernels.sgd(rule, gradient: direction, value: &$0, momentum: &buffer)
            }
            let mask = entry.parameter.mask
            state.put("square", entry.name, square, mask)
            if let mean { state.put("mean", entry.name, mean, mask) }
            if let buffer { state.put("momentum", entry.name, buffer, mask) }
        }
        state.step += 1
    }
}
