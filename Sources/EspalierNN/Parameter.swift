public import EspalierEngine
package import EspalierKernels
public import EspalierTensors
import Synchronization

/// A trainable tensor: the only mutable object of a model.
///
/// Compression lives here, not in layers: a parameter may carry a mask and a quantization scheme, and every layer sees
/// the value that these leave.
public final class Parameter: Leaf, Sendable {
    private struct State {
        var value: Tensor
        var mask: Mask?
        var isMaskLocked = false
        var quantization: QuantizationScheme?
        var isTrainable = true
    }

    private let state: Mutex<State>
    /// Whether it is the weight of a linear layer and nothing else: what sparse products are for.
    let isLinearWeight: Bool

    /// A parameter with this initial value.
    public init(_ value: Tensor) {
        state = Mutex(State(value: value))
        isLinearWeight = false
    }

    /// The weight of a linear layer.
    init(linearWeight value: Tensor) {
        state = Mutex(State(value: value))
        isLinearWeight = true
    }

    /// The raw value, row-major; exactly +0 where masked.
    public var value: Tensor { Kernels.converted(held, to: .rowMajor) }

    /// The raw value as it is held: its live entries alone, in row-major order, after `holdLiveEntries`.
    public var held: Tensor { state.withLock { $0.value } }

    /// Which entries live; nil for all.
    public var mask: Mask? { state.withLock { $0.mask } }

    /// Whether the mask can no longer change.
    public var isMaskLocked: Bool { state.withLock { $0.isMaskLocked } }

    /// The codes that layers see it in; nil for floats. The raw value stays a float, and scales follow it.
    public var quantization: QuantizationScheme? {
        get { state.withLock { $0.quantization } }
        set { state.withLock { $0.quantization = newValue } }
    }

    /// Whether optimizers change it. A frozen parameter keeps its value and gets no gradient.
    public var isTrainable: Bool {
        get { state.withLock { $0.isTrainable } }
        set { state.withLock { $0.isTrainable = newValue } }
    }

    /// The extents.
    public var shape: Shape { held.shape }

    /// Replaces the value; masked entries become +0.
    ///
    /// - Precondition: the shape stays the same.
    public func assign(_ value: Tensor) {
        update { $0 = Kernels.converted(value, to: $0.layout) }
    }

    /// Changes the value as it is held, in place where nothing else holds it; masked entries become +0 afterwards.
    public func update(_ body: (inout Tensor) -> Void) {
        // Taken out for the change, so that the tensor has one owner and is not copied.
        var (value, mask) = state.withLock { state -> (Tensor, Mask?) in
            let value = state.value
            state.value = Parameter.empty
            return (value, state.mask)
        }
        let (shape, layout) = (value.shape, value.layout)
        body(&value)
        require(
            value.shape == shape && value.layout == layout,
            "a parameter of shape \(shape) became \(value.shape)")
        if layout == .rowMajor, let mask { Kernels.applyMask(mask.words, to: &value) }
        state.withLock { $0.value = value }
    }

    /// Changes the values of many parameters at once, in place where nothing else holds them.
    ///
    /// - Precondition: `body` keeps shapes and order, and leaves masked entries +0.
    package static func update(_ parameters: [Parameter], _ body: (inout [Tensor]) -> Void) {
        // Taken out for the change, so that each tensor has one owner and is not copied.
        var values = parameters.map { parameter in
            parameter.state.withLock { state -> Tensor in
                let value = state.value
                state.value = Parameter.empty
                return value
            }
        }
        let shapes = values.map(\.shape)
        body(&values)
        require(values.map(\.shape) == shapes, "parameters of shapes \(shapes) became others")
        for (parameter, value) in zip(parameters, values) {
            parameter.state.withLock { $0.value = value }
        }
    }

    /// Sets the mask; entries that it masks become +0.
    ///
    /// - Precondition: the present mask is not locked, and the shape is the parameter's.
    public func setMask(_ mask: Mask?) {
        require(!isMaskLocked, "the mask is locked")
        require(mask.map { $0.shape == shape } ?? true, "a mask for another shape")
        state.withLock { $0.mask = mask }
        update { _ in }
    }

    /// Makes the mask final.
    ///
    /// A linear layer's weight is from now on held as its live entries, and trained as such, where sparse products of its
    /// size and pattern are faster than dense ones.
    public func lockMask() {
        let mask = state.withLock { state -> Mask? in
            state.isMaskLocked = true
            return state.mask
        }
        guard isLinearWeight, held.layout == .rowMajor, let mask,
            LivePattern.fits(outputs: mask.shape[0], inputs: mask.shape[1])
        else { return }
        let pattern = LivePattern(mask)
        if pattern.pays() { holdLiveEntries(pattern) }
    }

    /// Holds only these entries from now on, and optimizers with it. Layers see the same weight.
    ///
    /// - Precondition: the mask is locked, and the entries are those that it lets live.
    package func holdLiveEntries(_ entries: LivePattern) {
        require(
            isMaskLocked && mask?.liveCount == entries.count && shape == entries.shape,
            "live entries of another mask, or one that may still change")
        state.withLock { $0.value = Kernels.converted($0.value, to: .live(entries)) }
    }

    private static let empty = Tensor.zeros([0])
}

/// A tensor that belongs to a model but is not trained, such as running statistics.
public final class Buffer: Sendable {
    private let state: Mutex<Tensor>

    /// A buffer with this initial value.
    public init(_ value: Tensor) { state = Mutex(value) }

    /// The value.
    public var value: Tensor {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}
