import EspalierTensors

extension Tape {
    /// A part of the forward of which only the operands are kept.
    struct Segment {
        let operands: [Tensor]
        let needed: [Bool]
        /// Random ops before it.
        let randomOps: UInt64
        let body: ([Value]) -> Value
    }

    /// The result of `body` for some values of this tape. A tape that recomputes keeps nothing in between: the gradient
    /// runs it again.
    ///
    /// Chen et al., "Training deep nets with sublinear memory cost", 2016. Both runs draw the random numbers that a tape
    /// that keeps everything would draw, so that the bits are the same. Elsewhere it is `body` itself.
    ///
    /// - Precondition: `body` reads no other values of this tape than those given to it.
    public func segment(_ values: [Value], _ body: @escaping ([Value]) -> Value) -> Value {
        guard recomputes, isRecording, mode == .training else { return body(values) }
        let view = Tape(
            mode: mode, precision: precision, random: random, isRecording: false,
            observesRanges: observesRanges)
        let first = randomOps
        view.randomOps = first
        let result = body(values.map { view.input($0.stored) })
        observations.append(view.observations)
        randomOps = view.randomOps
        for (leaf, _) in view.leafNodes { _ = rawNode(leaf, leaf.held) }
        let needed = values.map { needsGradient[$0.node] }
        let segment = Segment(
            operands: values.map(\.stored), needed: needed, randomOps: first, body: body)
        let isNeeded = needed.contains(true) || view.leafNodes.contains { $0.leaf.isTrainable }
        return Value(
            stored: result.stored, tape: self,
            node: record(
                nil, values.map(\.node), nil, result.stored, isNeeded,
                segment: isNeeded ? segment : nil))
    }

    func replay(
        _ segment: Segment, upstream: Tensor
    ) -> (leaves: [(any Leaf, Tensor)], values: [Tensor?]) {
        let tape = Tape(
            mode: mode, precision: precision, random: random, observesRanges: observesRanges)
        tape.randomOps = segment.randomOps
        let operands = zip(segment.operands, segment.needed).map {
            tape.leaf($0, needsGradient: $1)
        }
        let result = segment.body(operands)
        return tape.backward(from: result, upstream: upstream, keeping: operands)
    }
}
