import EspalierGraph
import EspalierKernels
public import EspalierTensors

/// A leaf of the computation that gradients are asked for.
///
/// The tape knows parameters only by this: a value, how it is compressed, an identity.
public protocol Leaf: AnyObject {
    /// The raw value, exactly +0 where masked.
    var value: Tensor { get }
    /// Which entries live; nil for all.
    var mask: Mask? { get }
    /// The codes that its effective value is made of; nil for floats.
    var quantization: QuantizationScheme? { get }
    /// Whether the optimizer will ask for its gradient.
    var isTrainable: Bool { get }
}

/// Whether a network is being trained or used.
public enum Mode: Sendable {
    /// Batch statistics, dropout.
    case training
    /// Running statistics, no dropout.
    case evaluation
}

/// What the factors of products are rounded to. Sums, and everything that is not a product, stay floats.
public enum Precision: String, Sendable, CaseIterable {
    /// IEEE binary32.
    case float
    /// bfloat16: eight bits of mantissa, the exponents of a float.
    case bf16
}

/// A recording of one forward pass, in flat arrays, confined to one task.
///
/// Mode and random numbers ride on the tape: there are no global flags. `gradients(of:)` consumes it, so that
/// its buffers are gone when the optimizer writes in place.
public final class Tape {
    struct Node {
        let op: Op?
        let inputs: [Int]
        var saved: Saved?
    }

    /// Training or evaluation.
    public let mode: Mode
    /// What the factors of products are rounded to, forward and backward.
    public let precision: Precision
    /// Whether gradients can be asked for.
    public let isRecording: Bool
    /// Whether the ranges of values are reported where these are quantized.
    public let observesRanges: Bool
    private let random: RandomStream

    private(set) var nodes: [Node] = []
    private var needsGradient: [Bool] = []
    private(set) var shapes: [Shape] = []
    // Not values: these hold their tape, and it would never be freed.
    private var leaves: [ObjectIdentifier: (tensor: Tensor, node: Int)] = [:]
    private var leafNodes: [(leaf: any Leaf, node: Int)] = []
    private var randomOps: UInt64 = 0
    private var isConsumed = false
    private var statistics: [BatchStatistics] = []
    private var ranges: [ObservedRange] = []
    /// Whether the result of every op can be looked at afterwards.
    package var keepsValues = false
    private(set) var kept: [Tensor] = []

    /// Statistics of a batch for a layer's running ones, folded in by the trainer once a step.
    public struct BatchStatistics {
        /// The layer's running statistics.
        public let owner: AnyObject
        /// Mean of each channel. [C]
        public let mean: Tensor
        /// Unbiased variance of each channel. [C]
        public let variance: Tensor
    }

    /// The range of a batch where its values are quantized, folded in by the trainer once a step.
    public struct ObservedRange {
        /// What holds the moving range.
        public let owner: AnyObject
        /// Of the values before they are quantized.
        public let range: ValueRange
    }

    /// A tape for one forward pass.
    ///
    /// - Parameters:
    ///   - precision: What the factors of products are rounded to.
    ///   - random: The stream of this step's dropout; each op takes a child of it.
    ///   - isRecording: False for a pass whose gradients nobody asks for; it keeps nothing.
    ///   - observesRanges: True in evaluation mode is calibration. By default only training observes.
    public init(
        mode: Mode, precision: Precision = .float, random: RandomStream = RandomStream(seed: 0),
        isRecording: Bool = true, observesRanges: Bool? = nil
    ) {
        self.mode = mode
        self.precision = precision
        self.random = random
        self.isRecording = isRecording
        self.observesRanges = observesRanges ?? (mode == .training)
    }

    /// What batch normalization saw in this pass.
    public var batchStatistics: [BatchStatistics] { statistics }

    /// What was seen in this pass where values are quantized.
    public var observedRanges: [ObservedRange] { ranges }

    /// A tensor as a value without gradient.
    public func input(_ tensor: Tensor) -> Value { leaf(tensor, needsGradient: false) }

    /// A tensor as a value whose gradient can be asked for.
    package func variable(_ tensor: Tensor) -> Value { leaf(tensor, needsGradient: true) }

    /// A parameter's effective value: masked where it has a mask, then on the grid of its codes where it is quantized.
    /// Recorded once, however often it is met.
    ///
    /// Scales follow the masked value. One that is not finite has none and stays as it is, so that the loss shows it.
    public func parameter(_ leaf: any Leaf) -> Value {
        let identity = ObjectIdentifier(leaf)
        if let (tensor, node) = leaves[identity] {
            return Value(tensor: tensor, tape: self, node: node)
        }
        let raw = self.leaf(leaf.value, needsGradient: leaf.isTrainable)
        if raw.node >= 0 { leafNodes.append((leaf, raw.node)) }
        var value = leaf.mask.map { apply(.mask(Op.ApplyMask(mask: $0)), raw) } ?? raw
        if let scheme = leaf.quantization,
            let parameters = QuantizationParameters(scheme, covering: value.tensor)
        {
            value = value.fakeQuantized(parameters)
        }
        leaves[identity] = (value.tensor, value.node)
        return value
    }

    private func leaf(_ tensor: Tensor, needsGradient: Bool) -> Value {
        Value(tensor: tensor, tape: self, node: record(nil, [], nil, tensor.shape, needsGradient))
    }

    private func record(
        _ op: Op?, _ inputs: [Int], _ saved: Saved?, _ shape: Shape, _ needsGradient: Bool
    ) -> Int {
        guard isRecording else { return -1 }
        nodes.append(Node(op: op, inputs: inputs, saved: saved))
        shapes.append(shape)
        self.needsGradient.append(needsGradient)
        return nodes.count - 1
    }

    /// What was recorded, in order: ops, parameters and what was fed in.
    var records: [(op: Op?, inputs: [Int], shape: Shape, leaf: (any Leaf)?)] {
        let owners = Dictionary(uniqueKeysWithValues: leafNodes.map { ($0.node, $0.leaf) })
        return nodes.indices.map { (nodes[$0].op, nodes[$0].inputs, shapes[$0], owners[$0]) }
    }

    /// The next stream for an op that draws random numbers.
    func nextRandomStream() -> RandomStream {
        defer { randomOps += 1 }
        return random.child(randomOps)
    }

    func report(_ moments: BatchStatistics) { statistics.append(moments) }

    func report(_ range: ObservedRange) { ranges.append(range) }

    /// Runs an op and records it.
    ///
    /// - Precondition: the operands' shapes fit; they are in the message where they do not.
    @discardableResult
    func apply(_ op: Op, _ operands: Value...) -> Value { apply(op, operands).value }

    func apply(_ op: Op, _ operands: [Value]) -> (value: Value, moments: Op.BatchNorm.Moments?) {
        require(!isConsumed, "this tape has been consumed by gradients(of:); begin a new one")
        for operand in operands {
            require(operand.tape === self, "operands of one op must be on one tape")
        }
        let rule = op.rule
        let inputShapes = operands.map(\.shape)
        do {
            _ = try rule.outputShape(inputShapes)
        } catch {
            fatalError(error.description)
        }
        let needed = operands.map { $0.node >= 0 && needsGradient[$0.node] }
        let records = isRecording && needed.contains(true)
        var context = ForwardContext(isRecording: records, needed: needed, precision: precision)
        let result = rule.forward(operands.map(\.tensor), &context)
        if keepsValues { kept.append(result) }
        let saved =
            records
            ? Saved(
                tensors: context.tensors, inputShapes: inputShapes, needed: needed,
                precision: precision) : nil
        let node = record(op, operands.map(\.node), saved, result.shape, records)
        return (Value(tensor: result, tape: self, node: node), context.moments)
    }

    /// The gradients of a scalar for every trainable parameter that it depends on.
    ///
    /// The tape is consumed: nothing can be recorded on it afterwards.
    ///
    /// - Precondition: `loss` has one element and is on this tape, which records.
    public func gradients(of loss: Value) -> Gradients {
        let all = backward(
            from: loss, upstream: Tensor(repeating: 1, shape: loss.shape), keeping: [])
        require(loss.tensor.count == 1, "gradients of a value of shape \(loss.shape)")
        return all.parameters
    }

    /// The gradients for `values` as well, given the gradient of some result.
    package func gradients(
        of result: Value, upstream: Tensor, for values: [Value]
    ) -> (parameters: Gradients, values: [Tensor]) {
        backward(from: result, upstream: upstream, keeping: values)
    }

    private func backward(
        from result: Value, upstream: Tensor, keeping values: [Value]
    ) -> (parameters: Gradients, values: [Tensor]) {
        require(isRecording && result.tape === self, "this tape did not record the value")
        require(!isConsumed, "gradients(of:) has already consumed this tape")
        require(upstream.shape == result.shape, "upstream \(upstream.shape) of \(result.shape)")
        isConsumed = true
        leaves = [:]
        var pending = [Tensor?](repeating: nil, count: nodes.count)
        pending[result.node] = upstream
        for index in stride(from: result.node, through: 0, by: -1) {
            guard let op = nodes[index].op, let saved = nodes[index].saved,
                let gradient = pending[index]
            else { continue }
            pending[index] = values.contains { $0.node == index } ? gradient : nil
            nodes[index].saved = nil
            for (input, part) in zip(nodes[index].inputs, op.rule.gradients(gradient, saved)) {
                guard let part, needsGradient[input] else { continue }
                pending[input] = pending[input].map { Kernels.add($0, part) } ?? part
            }
        }
        var gradients = Gradients()
        for (leaf, node) in leafNodes {
            if let gradient = pending[node] { gradients[leaf] = gradient }
        }
        let kept = values.map { pending[$0.node] ?? Tensor.zeros($0.shape) }
        nodes = []
        leafNodes = []
        return (gradients, kept)
    }
}

/// A tensor on a tape.
public struct Value {
    /// The tensor.
    public let tensor: Tensor
    /// The tape that recorded it.
    public let tape: Tape
    let node: Int

    /// The extents.
    public var shape: Shape { tensor.shape }
}

/// The result of a backward pass: a value, indexed by parameter, never stored on parameters.
public struct Gradients {
    private var byLeaf: [ObjectIdentifier: Tensor] = [:]

    /// No gradients.
    public init() {}

    /// The gradient for a parameter, of its shape; nil where the loss does not depend on it.
    public subscript(leaf: any Leaf) -> Tensor? {
        get { byLeaf[ObjectIdentifier(leaf)] }
        set { byLeaf[ObjectIdentifier(leaf)] = newValue }
    }
}
