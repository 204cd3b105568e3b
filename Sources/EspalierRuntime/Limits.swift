import EspalierGraph
import EspalierKernels
import EspalierTensors

/// What a graph may ask of this machine. A few bytes of a file can describe a network that no memory holds, or that runs
/// for days: it is refused by name before anything is made for it.
package struct Limits: Sendable {
    /// Of the values of one example, and of all that is made of the constants.
    package var bytes: Int
    /// Products, or values compared, for one example.
    package var work: Int
    package var nodes: Int

    package init(bytes: Int = 2 << 30, work: Int = 1 << 38, nodes: Int = 1 << 14) {
        (self.bytes, self.work, self.nodes) = (bytes, work, nodes)
    }
}

extension Graph {
    /// Makes sure that the graph can be planned: what the planner and the kernels count on without looking.
    ///
    /// - Returns: the extents of one example of the result, and the operations that it takes.
    /// - Throws: `GraphError` with the node.
    func checked(for limits: Limits) throws(GraphError) -> (output: Shape, work: Int) {
        guard nodes.count <= limits.nodes else {
            throw GraphError("\(nodes.count) nodes, at most \(limits.nodes) are run")
        }
        guard input.quantization?.isSound ?? true else {
            throw GraphError("input '\(input.name)': a zero point that is no code")
        }
        for constant in constants {
            guard case .codes(let codes) = constant.value else { continue }
            guard codes.parameters.isSound else {
                throw GraphError("constant '\(constant.name)': a zero point that is no code")
            }
        }
        let output = try outputExample()
        // Twice, so that what is the batch is one of any size.
        let (one, two) = (try shapes(batch: 1), try shapes(batch: 2))
        guard !input.example.contains(0) else {
            throw GraphError("input '\(input.name)': \(input.example) has no elements")
        }
        var total = Demand()
        for (index, node) in nodes.enumerated() {
            do throws(GraphError) {
                guard one[index].dropFirst().elementsEqual(two[index].dropFirst()) else {
                    throw GraphError("its result \(one[index]) depends on the batch")
                }
                guard !one[index].contains(0) else {
                    throw GraphError("its result \(one[index]) has no elements")
                }
                try checkAttributes(node)
                total = total + demand(of: index, one)
                try total.check(limits)
            } catch {
                throw GraphError("node '\(node.name)' (\(node.op.entry.name)): \(error)")
            }
        }
        return (output, total.work)
    }

    private func checkAttributes(_ node: Node) throws(GraphError) {
        guard node.quantization?.isSound ?? true else {
            throw GraphError("a zero point that is no code")
        }
        let window: Window2D
        switch node.op {
        case .fakeQuantize(let op):
            guard op.parameters.isSound else { throw GraphError("a zero point that is no code") }
            return
        case .conv2D(let op):
            guard case .constant(let weight) = node.operands[1] else { return }
            window = op.window(weight: constants[weight].shape)
        case .maxPool2D(let op): window = op.window
        case .averagePool2D(let op): window = op.window
        default: return
        }
        // The kernels count in 32 bits: positions, taps, and where a tap lies.
        let extents = [
            window.kernel.height, window.kernel.width, window.stride.height, window.stride.width,
            window.padding.top, window.padding.left, window.padding.bottom, window.padding.right,
            window.dilation.height, window.dilation.width,
        ]
        guard extents.allSatisfy({ $0 <= 1 << 24 }),
            window.kernel.height * window.kernel.width <= Int32.max
        else { throw GraphError("a window of \(window.kernel) is too large") }
    }

    /// What a node takes, saturated.
    private func demand(of index: Int, _ shapes: [Shape]) -> Demand {
        let node = nodes[index]
        let count = shapes[index].elementCount
        func taps(_ window: Window2D) -> Int { window.kernel.height * window.kernel.width }
        switch node.op {
        case .linear, .conv2D:
            guard case .constant(let constant) = node.operands[1] else { return Demand() }
            let weight = constants[constant].shape
            let depth = weight.dropFirst().reduce(1, *)
            // Packed for 64 outputs at a time, as floats at worst.
            let packed = product(product((weight[0] + 63) / 64 * 64, depth), 4)
            return Demand(value: 4 * count, bytes: packed, work: product(count, depth))
        case .maxPool2D(let op):
            return Demand(value: 8 * count, work: product(count, taps(op.window)))
        case .averagePool2D(let op):
            return Demand(
                value: 4 * count, bytes: 4 * count, work: product(count, taps(op.window)))
        case .add: return Demand(value: 4 * count, bytes: 4 * count, work: count)
        default: return Demand(value: 4 * count, work: count)
        }
    }
}

/// Bytes and time.
private struct Demand {
    /// Bytes of the largest value.
    var value = 0
    /// Of what is made of constants.
    var bytes = 0
    var work = 0

    static func + (a: Demand, b: Demand) -> Demand {
        Demand(
            value: max(a.value, b.value), bytes: sum(a.bytes, b.bytes), work: sum(a.work, b.work))
    }

    func check(_ limits: Limits) throws(GraphError) {
        guard value <= limits.bytes else {
            throw GraphError("its result takes \(value) bytes, at most \(limits.bytes) are taken")
        }
        guard bytes <= limits.bytes else {
            throw GraphError(
                "with it, the constants take \(bytes) bytes, at most \(limits.bytes) are taken")
        }
        guard work <= limits.work else {
            throw GraphError(
                "with it, an example takes \(work) operations, at most \(limits.work) are done")
        }
    }
}

private func product(_ a: Int, _ b: Int) -> Int {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow ? .max : product
}

private func sum(_ a: Int, _ b: Int) -> Int {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? .max : sum
}

extension QuantizationParameters {
    /// Whether all zero points are codes.
    fileprivate var isSound: Bool {
        let codes = scheme.codes
        return zeroPoints.allSatisfy { scheme.isSymmetric ? $0 == 0 : codes.contains($0) }
    }
}
