public import EspalierEngine
import EspalierKernels
public import EspalierTensors

/// An update rule with its state.
///
/// Where a parameter is masked, its value and all its state stay exactly +0.
public protocol Optimizer: Sendable {
    /// One step along the gradients. Parameters that are frozen or have no gradient keep their value.
    mutating func update(_ parameters: ParameterSet, with gradients: Gradients, rate: Float)

    /// What a schedule of momentum changes: for Adam the decay of the first moment.
    var momentum: Float { get set }

    /// All state, so that a checkpoint can hold it.
    var state: OptimizerState { get set }
}

/// What an optimizer remembers.
public struct OptimizerState: Sendable {
    /// Steps done.
    public var step = 0
    /// Tensors by slot (such as `momentum`), then by parameter name.
    public var slots: [String: [String: Tensor]] = [:]

    /// No steps done.
    public init() {}

    /// Takes a tensor out to change it in place, in the gradient's layout; zeros where there is none yet.
    mutating func take(_ slot: String, _ name: String, like gradient: Tensor) -> Tensor {
        guard let tensor = slots[slot]?.removeValue(forKey: name) else {
            return Tensor.zeros(like: gradient)
        }
        return Kernels.converted(tensor, to: gradient.layout)
    }

    /// Puts a changed tensor back, +0 where masked.
    mutating func put(_ slot: String, _ name: String, _ tensor: Tensor, _ mask: Mask?) {
        var tensor = tensor
        if tensor.layout == .rowMajor, let mask { Kernels.applyMask(mask.words, to: &tensor) }
        slots[slot, default: [:]][name] = tensor
    }
}

/// What one parameter has for itself.
public struct ParameterOptions: Sendable, Hashable {
    /// Multiplies the rate.
    public var rateFactor: Float
    /// Replaces the optimizer's weight decay.
    public var weightDecay: Float?

    /// Options that differ from the optimizer's.
    public init(rateFactor: Float = 1, weightDecay: Float? = nil) {
        self.rateFactor = rateFactor
        self.weightDecay = weightDecay
    }
}

extension OptimizerState {
    /// Sets a parameter's state to +0 where a new mask says so.
    public mutating func apply(_ mask: Mask, to name: String) {
        for slot in slots.keys {
            guard let tensor = slots[slot]?.removeValue(forKey: name) else { continue }
            put(slot, name, tensor, mask)
        }
    }
}
