import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

/// Makes a plan of a graph: chooses a kernel for each node, and places its values in memory.
///
/// A value on a grid of unsigned codes lives as codes; everything else as floats. Conversions are added where a step
/// needs the other form.
struct Planner {
    let graph: Graph
    let capacity: Int
    let packed: PackedLayers
    let costs: CostTable
    let shapes: [Shape]
    private(set) var steps: [any Step] = []
    private(set) var strides: [Int] = []
    // Bytes of a slot beside those of each example.
    private var extra: [Int] = []
    private var codeSlots: [Graph.Operand: Slot] = [:]
    private var floatSlots: [Graph.Operand: Slot] = [:]
    private var marks: [Plan.Mark] = []

    /// - Throws: `GraphError` where the graph makes no sense, or has a node that this runtime cannot run.
    static func plan(
        _ graph: Graph, capacity: Int, packed: PackedLayers, costs: CostTable
    ) throws(GraphError) -> Plan {
        var planner = try Planner(graph, capacity: capacity, packed: packed, costs: costs)
        return try planner.plan()
    }

    private init(
        _ graph: Graph, capacity: Int, packed: PackedLayers, costs: CostTable
    ) throws(GraphError) {
        self.graph = graph
        self.costs = costs
        self.capacity = capacity
        self.packed = packed
        shapes = try graph.shapes(batch: 1)
    }

    private mutating func plan() throws(GraphError) -> Plan {
        floatSlots[.input] = .input
        if let grid = graph.input.quantization { try put(.input, on: grid) }
        mark(.input)
        for index in graph.nodes.indices {
            do throws(GraphError) {
                try add(index)
            } catch {
                let node = graph.nodes[index]
                throw GraphError("node '\(node.name)' (\(node.op.entry.name)): \(error)")
            }
            mark(.node(index))
        }
        let output = try floats(graph.output)
        let sizes = zip(strides, extra).map { $0 * capacity + $1 }
        let (places, bytes) = MemoryPlan.places(
            steps: steps, sizes: sizes, output: output.index)
        return Plan(
            capacity: capacity, bytes: bytes, steps: steps, places: places, sizes: sizes,
            strides: strides, extra: extra, marks: marks, output: output,
            outputCount: example(graph.output).elementCount,
            inputCount: graph.input.example.elementCount)
    }

    // MARK: - Values

    func example(_ operand: Graph.Operand) -> Shape {
        switch operand {
        case .input: graph.input.example
        case .node(let index): Shape(shapes[index].dropFirst())
        case .constant(let index): graph.constants[index].shape
        }
    }

    /// A new slot.
    ///
    /// - Parameters:
    ///   - bytes: Of each example.
    ///   - extra: Of the column as a whole.
    mutating func slot(bytes: Int, extra: Int = 0) -> Slot {
        strides.append(bytes)
        self.extra.append(extra)
        return Slot(index: strides.count - 1)
    }

    mutating func add(_ step: any Step) { steps.append(step) }

    mutating func setFloats(_ operand: Graph.Operand, _ slot: Slot) { floatSlots[operand] = slot }

    mutating func setCodes(_ operand: Graph.Operand, _ slot: Slot) { codeSlots[operand] = slot }

    func codes(_ operand: Graph.Operand) -> Slot? { codeSlots[operand] }

    /// A slot for an operand's floats.
    mutating func floatSlot(for operand: Graph.Operand) -> Slot {
        slot(bytes: example(operand).elementCount * 4)
    }

    /// The floats of an operand, made of its codes where it has only those.
    mutating func floats(_ operand: Graph.Operand) throws(GraphError) -> Slot {
        if let slot = floatSlots[operand] { return slot }
        guard let codes = codeSlots[operand],
            let quantizer = graph.grid(of: operand).flatMap({ esp_quantizer($0) })
        else { throw GraphError("it reads a constant where a value is expected") }
        let target = floatSlot(for: operand)
        add(
            DequantizeStep(
                source: codes, target: target, count: example(operand).elementCount,
                quantizer: quantizer))
        floatSlots[operand] = target
        return target
    }

    /// Puts an operand's floats on a grid: as codes where the grid is one of unsigned codes.
    mutating func put(
        _ operand: Graph.Operand, on grid: QuantizationParameters
    ) throws(GraphError) {
        guard grid.scales.count == 1, let quantizer = esp_quantizer(any: grid) else {
            throw GraphError("a grid of several scales for a value")
        }
        let source = try floats(operand)
        guard grid.isCodes else {
            let target = floatSlot(for: operand)
            add(
                ElementwiseStep(
                    name: "fake quantize", kind: .fakeQuantize(quantizer), source: source,
                    target: target, count: example(operand).elementCount))
            floatSlots[operand] = target
            return
        }
        let count = example(operand).elementCount
        let target = slot(bytes: count)
        add(QuantizeStep(source: source, target: target, count: count, quantizer: quantizer))
        codeSlots[operand] = target
        // From here on the value is what its codes say.
        floatSlots[operand] = nil
    }

    private mutating func mark(_ operand: Graph.Operand) {
        let codes = codeSlots[operand]
        guard let slot = codes ?? floatSlots[operand], steps.count > 0 else { return }
        marks.append(
            Plan.Mark(
                step: steps.count - 1, operand: operand, slot: slot, isCodes: codes != nil,
                layout: PixelLayout(example(operand))))
    }

    // MARK: - Nodes

    private mutating func add(_ index: Int) throws(GraphError) {
        let node = graph.nodes[index]
        let operand = Graph.Operand.node(index)
        switch node.op {
        case .linear, .conv2D:
            try addLayer(index)
            return
        case .maxPool2D(let op) where node.activation == .none && node.quantization == nil:
            if let source = codes(node.operands[0]) {
                addCodesPool(index, op.window, source)
                return
            }
        case .reshape where node.activation == .none && node.quantization == nil:
            if let source = codes(node.operands[0]) {
                // The same bytes.
                setCodes(.node(index), source)
                return
            }
        default: break
        }
        let result = try floatResult(of: index)
        setFloats(operand, result)
        try finish(index)
    }

    /// The activation and grid of a node whose floats are there.
    mutating func finish(_ index: Int, hasActivation: Bool = false) throws(GraphError) {
        let node = graph.nodes[index]
        let operand = Graph.Operand.node(index)
        if node.activation == .relu, !hasActivation {
            // A slot that nobody else reads is changed in place.
            let source = try floats(operand)
            let isOwn = node.operands.allSatisfy { floatSlots[$0] != source }
            let target = isOwn ? source : floatSlot(for: operand)
            add(
                ElementwiseStep(
                    name: "\(node.name) relu", kind: .relu, source: source, target: target,
                    count: example(operand).elementCount))
            setFloats(operand, target)
        }
        if let grid = node.quantization { try put(operand, on: grid) }
    }

    private mutating func floatResult(of index: Int) throws(GraphError) -> Slot {
        let node = graph.nodes[index]
        let first = node.operands[0]
        func elementwise(_ kind: ElementwiseStep.Kind, _ source: Slot, _ target: Slot) {
            add(
                ElementwiseStep(
                    name: node.name, kind: kind, source: source, target: target,
                    count: shapes[index].elementCount))
        }
        switch node.op {
        case .reshape: return try floats(first)
        case .relu, .scale, .softmax, .fakeQuantize:
            let kind = try elementwiseKind(node, of: first)
            let source = try floats(first)
            let target = floatSlot(for: .node(index))
            elementwise(kind, source, target)
            return target
        case .add:
            var (a, b) = (node.operands[0], node.operands[1])
            if case .constant = a { swap(&a, &b) }
            let kind: ElementwiseStep.Kind
            if case .constant(let constant) = b {
                kind = .addConstant(try constantValues(constant, like: example(a)))
            } else {
                guard example(a) == example(b) else {
                    throw GraphError("adds \(example(b)) to \(example(a)): not supported here")
                }
                kind = .add(try floats(b))
            }
            let source = try floats(a)
            let target = floatSlot(for: .node(index))
            elementwise(kind, source, target)
            return target
        case .maxPool2D(let op):
            return try addFloatPool(index, op.window, factors: nil)
        case .averagePool2D(let op):
            return try addFloatPool(
                index, op.window, factors: op.factors(over: Shape([1] + example(first))))
        default: throw GraphError("this runtime cannot run it")
        }
    }

    private func elementwiseKind(
        _ node: Graph.Node, of operand: Graph.Operand
    ) throws(GraphError) -> ElementwiseStep.Kind {
        switch node.op {
        case .scale(let op): return .scale(op.factor)
        case .fakeQuantize(let op):
            guard op.parameters.scales.count == 1,
                let quantizer = esp_quantizer(any: op.parameters)
            else { throw GraphError("several scales: not supported here") }
            return .fakeQuantize(quantizer)
        case .softmax(let op):
            let example = example(operand)
            guard op.axis == -1 || op.axis == example.rank, example.rank > 0 else {
                throw GraphError("softmax along axis \(op.axis): only the last is supported here")
            }
            return .softmax(columns: example.last ?? 1, logarithm: op.logarithm)
        default: return .relu
        }
    }

    // A constant as it is added to one example; it may lack axes in front, or have extents of 1.
    private func constantValues(_ index: Int, like example: Shape) throws(GraphError) -> [Float] {
        guard case .floats(let tensor) = graph.constants[index].value else {
            throw GraphError("adds codes")
        }
        var shape = Array(tensor.shape)
        if shape.count == example.rank + 1, shape[0] == 1 { shape.removeFirst() }
        guard shape.count <= example.rank else { throw GraphError("adds \(tensor.shape)") }
        shape = [Int](repeating: 1, count: example.rank - shape.count) + shape
        guard zip(shape, example).allSatisfy({ $0 == $1 || $0 == 1 }) else {
            throw GraphError("adds \(tensor.shape) to \(example)")
        }
        let strides = Shape(shape).strides
        let values = tensor.elements
        let own = example.strides
        return (0..<example.elementCount).map { index in
            var at = 0
            for axis in example.indices where shape[axis] > 1 {
                at += index / own[axis] % example[axis] * strides[axis]
            }
            return values[at]
        }
    }

    // MARK: - Pools and shapes

    private mutating func addCodesPool(_ index: Int, _ window: Window2D, _ source: Slot) {
        let image = Shape([1] + example(graph.nodes[index].operands[0]))
        let layout = PixelLayout(example(.node(index)))
        let target = slot(bytes: layout.count)
        add(
            MaxPoolCodesStep(
                name: graph.nodes[index].name, window: esp_window(window, image: image),
                source: source, target: target, output: layout))
        setCodes(.node(index), target)
    }

    private mutating func addFloatPool(
        _ index: Int, _ window: Window2D, factors: [Float]?
    ) throws(GraphError) -> Slot {
        let first = graph.nodes[index].operands[0]
        let source = try floats(first)
        let target = floatSlot(for: .node(index))
        let kind: PoolFloatsStep.Kind =
            factors.map { .mean(factors: $0) } ?? .largest(floatSlot(for: .node(index)))
        add(
            PoolFloatsStep(
                name: graph.nodes[index].name, kind: kind,
                window: esp_window(window, image: Shape([1] + example(first))), source: source,
                target: target))
        return target
    }
}

extension QuantizationParameters {
    /// Whether the integer kernels take it: unsigned codes with one scale.
    var isCodes: Bool { !scheme.isSigned && scales.count == 1 }
}

extension esp_quantizer {
    /// Of a grid of unsigned codes; nil for others.
    init?(_ grid: QuantizationParameters) {
        guard grid.isCodes else { return nil }
        self.init(any: grid)
    }

    /// Of a grid with one scale.
    init?(any grid: QuantizationParameters) {
        guard grid.scales.count == 1 else { return nil }
        let codes = grid.scheme.codes
        self.init(
            scale: grid.scales[0], zero_point: grid.zeroPoints[0], low: codes.lowerBound,
            high: codes.upperBound)
    }
}
