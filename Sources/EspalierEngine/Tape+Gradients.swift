import EspalierGraph
import EspalierKernels
public import EspalierTensors

extension Tape {
    /// The gradients of a scalar for every trainable parameter that it depends on.
    ///
    /// The tape is consumed: nothing can be recorded on it afterwards.
    ///
    /// - Precondition: `loss` has one element and is on this tape, which records.
    public func gradients(of loss: Value) -> Gradients {
        var result = Gradients()
        addGradients(of: loss, to: &result)
        return result
    }

    /// Adds the gradients of a scalar, times a factor, to those of other parts of a batch. The tape is consumed.
    ///
    /// - Parameter factor: What the scalar counts: where it is a mean, the share of the batch that this tape saw.
    /// - Precondition: `loss` has one element and is on this tape, which records.
    public func addGradients(of loss: Value, times factor: Float = 1, to sums: inout Gradients) {
        require(loss.shape.elementCount == 1, "gradients of a value of shape \(loss.shape)")
        let upstream = Tensor(repeating: factor, shape: loss.shape)
        for (leaf, gradient) in backward(from: loss, upstream: upstream, keeping: []).leaves {
            sums.add(gradient, for: leaf)
        }
    }

    /// The gradients for `values` as well, given the gradient of some result.
    package func gradients(
        of result: Value, upstream: Tensor, for values: [Value]
    ) -> (parameters: Gradients, values: [Tensor]) {
        let (leaves, kept) = backward(from: result, upstream: upstream, keeping: values)
        var gradients = Gradients()
        for (leaf, gradient) in leaves { gradients[leaf] = gradient }
        return (
            gradients,
            zip(values, kept).map { value, gradient in
                gradient.map { Kernels.converted($0, to: .rowMajor) } ?? .zeros(value.shape)
            }
        )
    }

    /// The gradients of the parameters met, and those that arrived at `values`, in whatever layout.
    func backward(
        from result: Value, upstream: Tensor, keeping values: [Value]
    ) -> (leaves: [(any Leaf, Tensor)], values: [Tensor?]) {
        require(isRecording && result.tape === self, "this tape did not record the value")
        require(!isConsumed, "gradients(of:) has already consumed this tape")
        require(upstream.shape == result.shape, "upstream \(upstream.shape) of \(result.shape)")
        isConsumed = true
        leaves = [:]
        converted = [:]
        var pending = [Tensor?](repeating: nil, count: nodes.count)
        pending[result.node] = upstream
        func add(_ part: Tensor, to node: Int) {
            pending[node] = pending[node].map { sum($0, part, layouts[node]) } ?? part
        }
        for index in stride(from: result.node, through: 0, by: -1) {
            guard nodes[index].saved != nil || nodes[index].segment != nil,
                let held = pending[index].take()
            else { continue }
            // Held by nobody else from here on, so that an op may write over it.
            var arrived = Arrived(
                upstream: Kernels.converted(consume held, to: layouts[index]))
            if values.contains(where: { $0.node == index }) { pending[index] = arrived.upstream }
            let parts: [Tensor?]
            if let segment = nodes[index].segment {
                nodes[index].segment = nil
                let replayed = replay(segment, upstream: arrived.upstream)
                parts = replayed.values
                for (leaf, part) in replayed.leaves {
                    if let node = rawLeaves[ObjectIdentifier(leaf)] { add(part, to: node) }
                }
            } else if let op = nodes[index].op, let saved = nodes[index].saved {
                nodes[index].saved = nil
                let first = nodes[index].inputs.first
                if let first { arrived.sum = pending[first].take() }
                parts = op.rule.gradients(inPlace: &arrived, saved)
                if let first, let sum = arrived.sum.take() { pending[first] = sum }
            } else {
                continue
            }
            for (input, part) in zip(nodes[index].inputs, parts) {
                guard let part, needsGradient[input] else { continue }
                add(part, to: input)
            }
        }
        let found: [(any Leaf, Tensor)] = leafNodes.compactMap { leaf, node in
            pending[node].map { gradient in
                // Few rows of many stay so: optimizers take them as they are.
                let isHeld = SomeRows.held(by: gradient) != nil && layouts[node] == .rowMajor
                return (leaf, isHeld ? gradient : Kernels.converted(gradient, to: layouts[node]))
            }
        }
        let kept = values.map { pending[$0.node] }
        nodes = []
        leafNodes = []
        rawLeaves = [:]
        return (found, kept)
    }

    // Parts in one layout are added as they are: several ops may have read one conversion of a value.
    private func sum(_ a: Tensor, _ b: Tensor, _ layout: Layout) -> Tensor {
        if a.layout == b.layout { return Kernels.add(a, b) }
        return Kernels.add(
            Kernels.converted(a, to: layout), Kernels.converted(b, to: layout))
    }
}

/// The result of a backward pass: a value, indexed by parameter, never stored on parameters.
public struct Gradients {
    private var byLeaf: [ObjectIdentifier: Tensor] = [:]

    /// No gradients.
    public init() {}

    /// The gradient for a parameter, of its shape and in the layout that it is held in; nil where the loss does not
    /// depend on it.
    public subscript(leaf: any Leaf) -> Tensor? {
        get {
            held(for: leaf).map {
                SomeRows.held(by: $0) == nil ? $0 : Kernels.converted($0, to: .rowMajor)
            }
        }
        set { byLeaf[ObjectIdentifier(leaf)] = newValue }
    }

    /// The gradient for a parameter as it is held: also some rows of it, where the others are zero.
    package func held(for leaf: any Leaf) -> Tensor? { byLeaf[ObjectIdentifier(leaf)] }

    mutating func add(_ part: Tensor, for leaf: any Leaf) {
        // Taken out, so that the sum is made in place.
        guard var sum = byLeaf.removeValue(forKey: ObjectIdentifier(leaf)) else {
            self[leaf] = part
            return
        }
        guard sum.layout == part.layout else {
            self[leaf] = Kernels.add(
                Kernels.converted(sum, to: .rowMajor), Kernels.converted(part, to: .rowMajor))
            return
        }
        Kernels.add(part, times: 1, to: &sum)
        self[leaf] = sum
    }
}
