import EspalierKernels
import EspalierTensors

/// What a plan does, step by step, and how long each step takes.
package struct PlanReport: Sendable {
    package struct Row: Sendable {
        package let name: String
        package let kernel: String
        /// Slots; -1 is what the caller feeds in.
        package let reads: [Int]
        package let writes: [Int]
        /// Bytes of what is written, scratch included.
        package let bytes: Int
        /// Blocks of weights that are multiplied, and those that a dense layer would have.
        package let live: LiveBlocks?
        /// The median; nil where nothing was timed.
        package let nanoseconds: Double?
    }

    package let rows: [Row]
    /// Of examples.
    package let capacity: Int
    /// Of a column's memory, which slots share.
    package let bytes: Int
}

/// How many blocks of a sparse layer are left.
package struct LiveBlocks: Sendable, Hashable {
    package let count: Int
    package let all: Int
}

extension Model {
    /// What a batch runs through.
    ///
    /// - Parameter calls: How often its first column is computed to time its steps; 0 for no times.
    package func report(batch: Int, calls: Int = 0) -> PlanReport {
        let plan = plan(for: batch)
        let times = calls > 0 ? stepTimes(plan, count: min(batch, plan.capacity), calls: calls) : []
        let rows = plan.steps.enumerated().map { index, step in
            PlanReport.Row(
                name: step.name, kernel: step.kernel, reads: step.reads, writes: step.writes,
                bytes: step.writes.reduce(0) { $0 + plan.sizes[$1] }, live: step.live,
                nanoseconds: times.isEmpty ? nil : times[index])
        }
        return PlanReport(rows: rows, capacity: plan.capacity, bytes: plan.bytes)
    }

    // The median of each step over some calls; what reading the clock takes is not counted.
    private func stepTimes(_ plan: Plan, count: Int, calls: Int) -> [Double] {
        let input = [Float](repeating: 0.5, count: count * plan.inputCount)
        let arena = takeArena(plan.bytes)
        let clock = ContinuousClock()
        let kernels = unsafe KernelTable.current
        var times = plan.steps.map { _ in [Double]() }
        var idle: [Double] = []
        unsafe input.withUnsafeBufferPointer { input in
            guard let input = input.baseAddress else { return }
            unsafe arena.writing { base in
                let column = unsafe Column(
                    base: base, input: input, plan: plan, count: count, kernels: kernels)
                for call in -20..<calls {
                    for (index, step) in plan.steps.enumerated() {
                        let start = clock.now
                        step.run(column)
                        let elapsed = clock.now - start
                        if call >= 0 { times[index].append(elapsed.nanoseconds) }
                    }
                    let start = clock.now
                    idle.append((clock.now - start).nanoseconds)
                }
            }
        }
        put(arena)
        func median(_ times: [Double]) -> Double { times.sorted()[times.count / 2] }
        let reading = median(idle)
        return times.map { max(median($0) - reading, 0) }
    }
}

extension Duration {
    fileprivate var nanoseconds: Double {
        Double(components.seconds) * 1e9 + Double(components.attoseconds) * 1e-9
    }
}
