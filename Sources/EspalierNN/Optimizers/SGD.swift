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
        for entry in parameters.entries where entry.parameter.isTrainable {
            guard let gradient = gradients[entry.parameter] else { continue }
            let own = options[entry.name] ?? ParameterOptions()
            let isFirst = state.slots["momentum"]?[entry.name] == nil
            let rule = esp_sgd(
                rate: rate * own.rateFactor, momentum: momentum, gain: isFirst ? 1 : 1 - dampening,
                decay: own.weightDecay ?? weightDecay, nesterov: nesterov)
            var buffer: Tensor?
            if momentum != 0 { buffer = state.take("momentum", entry.name, like: gradient) }
            entry.parameter.update {
                Kernels.sgd(rule, gradient: gradient, value: &$0, momentum: &buffer)
            }
            if let buffer { state.put("momentum", entry.name, buffer, entry.parameter.mask) }
        }
        state.step += 1
    }
}
