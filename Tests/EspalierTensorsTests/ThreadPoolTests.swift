import EspalierTensors
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Serialized, because the width belongs to the process.
@Suite(.serialized) struct ThreadPoolTests {
    /// How often each chunk of a loop ran.
    private func visits(_ chunks: Int) -> [Int] {
        let counts = Mutex([Int](repeating: 0, count: chunks))
        ThreadPool.shared.forEachChunk(chunks) { chunk in counts.withLock { $0[chunk] += 1 } }
        return counts.withLock { $0 }
    }

    private func withWidth(_ width: Int, _ body: () -> Void) {
        let previous = ThreadPool.shared.width
        ThreadPool.shared.width = width
        body()
        ThreadPool.shared.width = previous
    }

    @Test(arguments: [1, 2, 1_000]) func everyChunkRunsOnce(_ width: Int) {
        withWidth(width) {
            for chunks in [0, 1, 2, 3, 4, 7, 16, 17, 61, 64, 256, 997, 5_000] {
                #expect(visits(chunks) == [Int](repeating: 1, count: chunks))
            }
        }
    }

    /// In a process of its own, because other suites set the width as well.
    @Test func widthIsKeptInRange() async {
        await #expect(processExitsWith: .success) {
            let pool = ThreadPool.shared
            pool.width = 0
            precondition(pool.width == 1)
            pool.width = 100_000
            precondition(pool.width >= ThreadPool.coreCount && pool.width < 100_000)
        }
    }

    @Test func rangesCoverTheCount() {
        for (count, grain) in [
            (0, 3), (1, 3), (3, 3), (10, 3), (997, 64), (5, 0), (64, 64), (65, 64),
        ] {
            let seen = Mutex([Int](repeating: 0, count: count))
            ThreadPool.shared.forEachRange(count, grain: grain) { range in
                #expect(range.count <= max(grain, 1) && !range.isEmpty)
                #expect(range.lowerBound % max(grain, 1) == 0)
                seen.withLock { for index in range { $0[index] += 1 } }
            }
            #expect(seen.withLock { $0 } == [Int](repeating: 1, count: count))
        }
    }

    @Test func nestedLoops() {
        withWidth(2) {
            let total = Atomic(0)
            for _ in 0..<50 {
                ThreadPool.shared.forEachChunk(7) { _ in
                    ThreadPool.shared.forEachChunk(5) { _ in
                        ThreadPool.shared.forEachChunk(3) { _ in
                            total.wrappingAdd(1, ordering: .relaxed)
                        }
                    }
                }
            }
            #expect(total.load(ordering: .relaxed) == 50 * 7 * 5 * 3)
        }
    }

    @Test func callersFromSeveralThreads() async {
        let total = await withTaskGroup(of: Int.self) { group in
            for task in 0..<6 {
                group.addTask {
                    var good = 0
                    for round in 0..<300 {
                        let chunks = 1 + (round + task) % 9
                        let sum = Atomic(0)
                        ThreadPool.shared.forEachChunk(chunks) {
                            sum.wrappingAdd($0 + 1, ordering: .relaxed)
                        }
                        if sum.load(ordering: .relaxed) == chunks * (chunks + 1) / 2 { good += 1 }
                    }
                    return good
                }
            }
            return await group.reduce(0, +)
        }
        #expect(total == 6 * 300)
    }

    /// Loops of almost nothing, back to back and after pauses in which the workers fall asleep.
    @Test func tinyLoopsDoNotHang() {
        withWidth(2) {
            let total = Atomic(0)
            for round in 0..<20_000 {
                ThreadPool.shared.forEachChunk(2) { _ in total.wrappingAdd(1, ordering: .relaxed) }
                if round % 400 == 0 { usleep(200) }
            }
            #expect(total.load(ordering: .relaxed) == 40_000)
        }
    }

    /// What the loop wrote is seen after it, without a lock.
    @Test func resultsAreVisible() {
        withWidth(2) {
            for round in 1...500 {
                var tensor = Tensor.zeros([1_024])
                unsafe tensor.writing { target in
                    ThreadPool.shared.forEachChunk(64) { chunk in
                        for index in chunk * 16..<chunk * 16 + 16 {
                            unsafe target[index] = Float(round + index)
                        }
                    }
                }
                let elements = tensor.elements
                #expect(elements.indices.allSatisfy { elements[$0] == Float(round + $0) })
            }
        }
    }
}
