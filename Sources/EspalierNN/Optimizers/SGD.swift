import CEspalierKernels
public import EspalierEngine
import EspalierKernels
import EspalierTensors

/// Stochastic gradient descent: g += decay * w; m = momentum * m + (1 - dampening) * g; w -= rate * m.
///
/// Nesterov's form moves along g + momentum * m. The first step sets m to g.
public struct SGD: Optimizer {
    /// 0 keeps no state.
    public var momentum: Float
    /// Taken off a new gradient's share.
    public var dampening: Float
    /// Added to the gradient as this times the weight.
    public var weightDecay: Float
    /// Whether to look ahead.
    public var nesterov: Bool
    /// Per parameter name.
    public var options: [String: ParameterOptions]
    public var state = OptimizerState()

    /// A rule at its first step.
    public init(
        momentum: Float = 0, dampening: Float = 0, weightDecay: Float = 0, nesterov: Bool = false,
        options: [String: ParameterOptions] = [:]
    ) {
        self.momentum = momentum
        self.dampening = dampening
        self.weightDecay = weightDecay
        self.nesterov = nesterov
        self.options = options
    }

    public mutating func update(
        _ parameters: ParameterSet, with gradients: Gradients, rate: Float
    ) {
        let (momentum, dampening, decay) = (momentum, dampening, weightDecay)
        let (nesterov, options) = (nesterov, options)
        step(parameters, gradients, slots: [momentum != 0 ? "momentum" : nil]) { name, isFirst in
            let own = options[name] ?? ParameterOptions()
            return .sgd(
                esp_sgd(
                    rate: rate * own.rateFactor, momentum: momentum,
                    gain: isFirst ? 1 : 1 - dampening, decay: own.weightDecay ?? decay,
                    nesterov: nesterov))
        }
        state.step += 1
    }
}
