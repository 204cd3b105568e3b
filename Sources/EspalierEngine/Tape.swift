import EspalierGraph
import EspalierKernels
public import EspalierTensors

/// A leaf of the computation that gradients are asked for.
///
/// The tape knows parameters only by this: a value, how it is compressed, an identity.
public protocol Leaf: AnyObject {
    /// The raw value, exactly +0 where masked; row-major.
    var value: Tensor { get }
    /// The raw value as it is held: only its live entries where a locked mask makes that worthwhile.
    var held: Tensor { get }
    /// Which entries live; nil for all.
    var mask: Mask? { get }
    /// The codes that its effective value is made of; nil for floats.
    var quantization: QuantizationScheme? { get }
    /// Whether the optimizer will ask for its gradient.
    var isTrainable: Bool { get }
}

extension Leaf {
    /// The value, where it is held whole.
    public var held: Tensor { value }
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
        var segment: Segment?
    }

    /// Training or evaluation.
    public let mode: Mode
    /// What the factors of products are rounded to, forward and backward.
    public let precision: Precision
    /// Whether gradients can be asked for.
    public let isRecording: Bool
    /// Whether the values inside of segments are computed again for the gradient rather than kept.
    public let recomputes: Bool
    /// Whether the ranges of values are reported where these are quantized.
    public let observesRanges: Bool
    let random: RandomStream

    var nodes: [Node] = []
    var needsGradient: [Bool] = []
    var shapes: [Shape] = []
    var layouts: [Layout] = []
    // What was converted for one op may be read by the next.
    var converted: [Conversion: Tensor] = [:]
    // Not values: these hold their tape, and it would never be freed.
    var leaves: [ObjectIdentifier: (tensor: Tensor, node: Int)] = [:]
    var leafNodes: [(leaf: any Leaf, node: Int)] = []
    var rawLeaves: [ObjectIdentifier: Int] = [:]
    var randomOps: UInt64 = 0
    var isConsumed = false
    /// What was seen in this pass, for the trainer to fold in.
    public internal(set) var observations = Observations()
    /// What batch normalization saw.
    public var batchStatistics: [Observations.BatchStatistics] { observations.statistics }
    /// What was seen where values are quantized.
    public var observedRanges: [Observations.ObservedRange] { observations.ranges }
    /// Whether the result of every op can be looked at afterwards.
    package var keepsValues = false
    private(set) var kept: [Tensor] = []

    /// A tape for one forward pass.
    ///
    /// - Parameters:
    ///   - precision: What the factors of products are rounded to.
    ///   - random: The stream of this step's dropout; each op takes a child of it.
    ///   - isRecording: False for a pass whose gradients nobody asks for; it keeps nothing.
    ///   - recomputes: Whether the values inside of segments are computed again for the gradient rather than kept.
    ///   - observesRanges: True in evaluation mode is calibration. By default only training observes.
    public init(
        mode: Mode, precision: Precision = .float, random: RandomStream = RandomStream(seed: 0),
        isRecording: Bool = true, recomputes: Bool = false, observesRanges: Bool? = nil
    ) {
        self.mode = mode
        self.precision = precision
        self.random = random
        self.isRecording = isRecording
        self.recomputes = recomputes
        self.observesRanges = observesRanges ?? (mode == .training)
    }

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
            return Value(stored: tensor, tape: self, node: node)
        }
        // What is recorded as a graph says what the network means: a whole weight under its mask.
        let held = mode == .training ? leaf.held : leaf.value
        let raw = Value(stored: held, tape: self, node: rawNode(leaf, held))
        var value = raw
        if held.layout == .rowMajor, let mask = leaf.mask {
            value = apply(.mask(Op.ApplyMask(mask: mask)), raw)
        }
        if let scheme = leaf.quantization,
            let parameters = QuantizationParameters(scheme, covering: value.tensor)
        {
            value = value.fakeQuantized(parameters)
        }
        leaves[identity] = (value.stored, value.node)
        return value
    }

    /// The node of a parameter's raw value. A tape that does not record remembers whom it met.
    func rawNode(_ leaf: any Leaf, _ held: Tensor) -> Int {
        if let node = rawLeaves[ObjectIdentifier(leaf)] { return node }
        let node = record(nil, [], nil, held, leaf.isTrainable)
        leafNodes.append((leaf, node))
        rawLeaves[ObjectIdentifier(leaf)] = node
        return node
    }

    func leaf(_ tensor: Tensor, needsGradient: Bool) -> Value {
        Value(stored: tensor, tape: self, node: record(nil, [], nil, tensor, needsGradient))
    }

    func record(
        _ op: Op?, _ inputs: [Int], _ saved: Saved?, _ result: Tensor, _ needsGradient: Bool,
        segment: Segment? = nil
    ) -> Int {
        guard isRecording else { return -1 }
        nodes.append(Node(op: op, inputs: inputs, saved: saved, segment: segment))
        shapes.append(result.shape)
        layouts.append(result.layout)
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
        let result = rule.forward(arranged(operands, for: rule), &context)
        if keepsValues { kept.append(Kernels.converted(result, to: .rowMajor)) }
        let saved =
            records
            ? Saved(
                tensors: context.tensors, inputShapes: inputShapes, needed: needed,
                precision: precision) : nil
        let node = record(op, operands.map(\.node), saved, result, records)
        return (Value(stored: result, tape: self, node: node), context.moments)
    }

    /// The operands in the layouts that an op reads.
    private func arranged(_ operands: [Value], for rule: any Differentiable) -> [Tensor] {
        let tensors = operands.map(\.stored)
        if tensors.allSatisfy({ $0.layout == .rowMajor }) { return tensors }
        return zip(operands, rule.layouts(reading: tensors)).map { operand, layout in
            guard operand.stored.layout != layout else { return operand.stored }
            let key = Conversion(node: operand.node, layout: layout)
            if operand.node >= 0, let known = converted[key] { return known }
            let result = Kernels.converted(operand.stored, to: layout)
            if operand.node >= 0 { converted[key] = result }
            return result
        }
    }

    struct Conversion: Hashable {
        let node: Int
        let layout: Layout

        func hash(into hasher: inout Hasher) { hasher.combine(node) }
    }
}

/// A tensor on a tape.
public struct Value {
    /// The tensor in the layout that its op wrote.
    package let stored: Tensor
    /// The tape that recorded it.
    public let tape: Tape
    let node: Int

    /// The tensor, row-major.
    public var tensor: Tensor { Kernels.converted(stored, to: .rowMajor) }

    /// The extents.
    public var shape: Shape { stored.shape }
}
