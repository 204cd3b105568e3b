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

    /// Takes a tensor out to change it in place, in the layout of the value; full of `initial` where there is none yet.
    mutating func take(
        _ slot: String, _ name: String, like value: Tensor, initial: Float = 0
    ) -> Tensor {
        guard let tensor = slots[slot]?.removeValue(forKey: name) else {
            return Tensor(repeating: initial, like: value)
        }
        return Kernels.converted(tensor, to: value.layout)
    }

    /// Puts a changed tensor back, +0 where masked.
    mutating func put(_ slot: String, _ name: String, _ tensor: Tensor, _ mask: Mask?) {
        var tensor = tensor
        if tensor.layout == .rowMajor, let mask { Kernels.applyMask(mask.words, to: &tensor) }
        slots[slot, default: [:]][name] = tensor
    }
}

extension Optimizer {
    /// One step of every parameter that is trained and has a gradient, all in one loop.
    ///
    /// - Parameters:
    ///   - slots: The state that the rule names, in its order; nil for what this optimizer does without.
    ///   - initial: What state begins with.
    ///   - rule: Of a parameter by name; `isFirst` where it has no state yet.
    mutating func step(
        _ parameters: ParameterSet, _ gradients: Gradients, slots: [String?], initial: Float = 0,
        rule: (_ name: String, _ isFirst: Bool) -> Kernels.UpdateRule
    ) {
        let entries = parameters.entries.filter {
            $0.parameter.isTrainable && gradients.held(for: $0.parameter) != nil
        }
        var state = self.state
        self.state = OptimizerState()
        Parameter.update(entries.map(\.parameter)) { values in
            var updates: [Kernels.Update] = []
            updates.reserveCapacity(entries.count)
            for (index, entry) in entries.enumerated() {
                guard let gradient = gradients.held(for: entry.parameter) else { continue }
                let known = slots.first.flatMap(\.self).map { state.slots[$0]?[entry.name] != nil }
                let rule = rule(entry.name, known != true)
                // State lies as the value does; a gradient may hold some rows only.
                let value = values[index]
                let tensors = slots.map { slot in
                    slot.map { state.take($0, entry.name, like: value, initial: initial) }
                }
                updates.append(
                    Kernels.Update(
                        rule: rule, gradient: gradient, value: value, state: tensors,
                        mask: value.layout == .rowMajor ? entry.parameter.mask?.words : nil))
            }
            values = []
            Kernels.update(&updates)
            for (entry, update) in zip(entries, updates) {
                for (slot, tensor) in zip(slots, update.state) {
                    if let slot, let tensor { state.slots[slot, default: [:]][entry.name] = tensor }
                }
            }
            values = updates.map(\.value)
        }
        self.state = state
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
