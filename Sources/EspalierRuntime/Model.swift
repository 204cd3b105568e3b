package import CEspalierKernels
package import EspalierGraph
package import EspalierKernels
package import EspalierTensors
import Synchronization

/// A network that runs: a graph with its weights as the kernels want them.
///
/// Any number of threads may call it at once. Results depend on each example alone: not on the batch, nor on the number
/// of threads; integer layers give the same bits on every instruction set.
public final class Model: Sendable {
    package let graph: Graph
    /// The extents of one example.
    public let inputExtents: [Int]
    /// The extents of the result for one example.
    public let outputExtents: [Int]
    /// What the file's maker said beside the network, such as what it is for.
    public let information: [UInt8]?
    private let packed = PackedLayers()
    private let costs: CostTable
    private let largestColumn: Int
    // For columns of 1, 2, 4, ... examples, each made where it is first needed.
    private let plans = Mutex([Plan?](repeating: nil, count: 7))
    private let arenas = Mutex<[PackedBuffer]>([])
    // Operations for one example.
    private let work: Int

    /// Bytes of a column's values, so that they stay in the second-level cache.
    private static let columnBytes = 512 << 10
    /// A batch of fewer operations is over before another thread has begun: some 20 microseconds.
    private static let leastShared = 4 << 20

    /// A model of a graph.
    ///
    /// - Parameters:
    ///   - costs: What kernels are chosen by; the results do not depend on it.
    ///   - limits: What it may ask for.
    /// - Throws: `GraphError` where this runtime cannot run it.
    package init(
        _ graph: Graph, information: [UInt8]? = nil, costs: CostTable = .current,
        limits: Limits = Limits()
    ) throws(GraphError) {
        self.graph = graph
        self.information = information
        self.costs = costs
        inputExtents = Array(graph.input.example)
        let demand = try graph.checked(for: limits)
        outputExtents = Array(demand.output)
        work = demand.work
        let one = try Planner.plan(graph, capacity: 1, packed: packed, costs: costs)
        guard one.bytes <= limits.bytes else {
            let largest = one.steps.max { one.bytes(of: $0) < one.bytes(of: $1) }
            throw GraphError(
                "the values of one example take \(one.bytes) bytes, at most \(limits.bytes) are taken; "
                    + "most of them at '\(largest?.name ?? graph.input.name)'")
        }
        var largest = 1
        while largest < 64, 2 * largest * one.bytes <= Model.columnBytes { largest *= 2 }
        largestColumn = largest
        plans.withLock { $0[0] = one }
    }

    /// Elements of one example.
    public var inputCount: Int { inputExtents.reduce(1, *) }
    /// Elements of the result for one example.
    public var outputCount: Int { outputExtents.reduce(1, *) }

    /// The results for a batch, example after example, row-major.
    ///
    /// - Throws: `ModelError` where the input is not a whole number of examples.
    public func run(_ input: [Float]) throws(ModelError) -> [Float] {
        guard inputCount > 0, input.count % inputCount == 0 else {
            throw ModelError(
                "\(input.count) values are no whole number of examples of \(inputExtents)")
        }
        let batch = input.count / inputCount
        return unsafe [Float](unsafeUninitializedCapacity: batch * outputCount) { result, count in
            count = batch * outputCount
            guard let result = result.baseAddress else { return }
            unsafe input.withUnsafeBufferPointer { input in
                guard let input = input.baseAddress else { return }
                unsafe run(input, batch: batch, into: result)
            }
        }
    }

    /// The same into an array that is there.
    ///
    /// - Precondition: `input` is a whole number of examples, and `result` has room for exactly their results.
    public func run(_ input: [Float], into result: inout [Float]) {
        let batch = input.count / max(inputCount, 1)
        require(
            input.count == batch * inputCount && result.count == batch * outputCount,
            "\(input.count) values in, \(result.count) out, for examples of \(inputExtents)")
        unsafe input.withUnsafeBufferPointer { input in
            unsafe result.withUnsafeMutableBufferPointer { result in
                guard let input = input.baseAddress, let result = result.baseAddress else { return }
                unsafe run(input, batch: batch, into: result)
            }
        }
    }

    /// The result for a batch [N, ...].
    ///
    /// - Parameter isa: The instruction set to use; one that this CPU has.
    /// - Precondition: its examples have the input's extents.
    package func run(_ input: Tensor, isa: ISA = .current) -> Tensor {
        require(
            Array(input.shape.dropFirst()) == inputExtents,
            "a batch \(input.shape) for examples of \(inputExtents)")
        let batch = input.shape[0]
        return unsafe Tensor(Shape([batch] + outputExtents)) { result in
            unsafe input.reading { unsafe run($0, batch: batch, into: result, isa: isa) }
        }
    }

    /// The same without copies: `batch` examples at `input` to as many results at `result`.
    package func run(
        _ input: UnsafePointer<Float>, batch: Int, into result: UnsafeMutablePointer<Float>,
        isa: ISA = .current
    ) {
        guard batch > 0, let table = unsafe KernelTable.table(for: isa) else { return }
        let plan = plan(for: batch)
        let columns = (batch + plan.capacity - 1) / plan.capacity
        let kernels = unsafe table.pointee
        func run(_ column: Int) {
            let first = column * plan.capacity
            let arena = takeArena(plan.bytes)
            unsafe plan.run(
                input + first * plan.inputCount, count: min(plan.capacity, batch - first),
                into: result + first * plan.outputCount, arena: arena, kernels: kernels)
            put(arena)
        }
        // Not by a clock: the same batch always runs in the same way.
        if batch >= (Model.leastShared + work - 1) / max(work, 1) {
            ThreadPool.shared.forEachChunk(columns, run)
        } else {
            for column in 0..<columns { run(column) }
        }
    }

    /// The value of every node for a batch, column after column, on this thread.
    ///
    /// - Parameter kernels: Others than the current ones, to see what a fault in them does.
    package func trace(
        _ input: Tensor, kernels: esp_kernels? = nil, into result: inout Tensor,
        _ observe: (_ first: Int, _ operand: Graph.Operand, NodeValue) -> Void
    ) {
        let batch = input.shape[0]
        let plan = plan(for: batch)
        let kernels = unsafe kernels ?? KernelTable.current
        require(result.count == batch * plan.outputCount, "a result of \(result.shape)")
        unsafe input.reading { input in
            unsafe result.writing { result in
                for first in stride(from: 0, to: batch, by: plan.capacity) {
                    let arena = takeArena(plan.bytes)
                    unsafe plan.run(
                        input + first * plan.inputCount, count: min(plan.capacity, batch - first),
                        into: result + first * plan.outputCount, arena: arena, kernels: kernels,
                        observes: true
                    ) { observe(first, $0, $1) }
                    put(arena)
                }
            }
        }
    }

    /// The plan for columns of a batch: the largest that fits the cache, or the next power of two for a small batch.
    package func plan(for batch: Int) -> Plan {
        let size = min(max(batch, 1), largestColumn)
        // Of the power of two that is at least the size.
        let index = Int.bitWidth - (size - 1).leadingZeroBitCount
        return plans.withLock { plans in
            if let plan = plans[index] { return plan }
            guard
                let plan = try? Planner.plan(
                    graph, capacity: 1 << index, packed: packed, costs: costs)
            else { fatalError("a graph that could be planned cannot be planned") }
            plans[index] = plan
            return plan
        }
    }

    // For the next one who takes it.
    func put(_ arena: PackedBuffer) { arenas.withLock { $0.append(arena) } }

    func takeArena(_ bytes: Int) -> PackedBuffer {
        let free = arenas.withLock { arenas in
            arenas.lastIndex { $0.count >= bytes }.map { arenas.remove(at: $0) }
        }
        return free ?? PackedBuffer(count: bytes)
    }
}

/// A model that cannot be read or run.
public struct ModelError: Error, CustomStringConvertible {
    /// The file, where there is one.
    public let path: String?
    /// What is wrong, and in which part.
    public let problem: String

    package init(path: String? = nil, _ problem: String) {
        self.path = path
        self.problem = problem
    }

    public var description: String { path.map { "\($0): \(problem)" } ?? problem }
}
