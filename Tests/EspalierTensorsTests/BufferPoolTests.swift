import EspalierTensors
import Testing

@Suite(.serialized) struct BufferPoolTests {
    @Test func classesHoldWhatTheySay() {
        var sizes = Array(0...5_000)
        for power in 12..<40 {
            sizes += [(1 << power) - 1, 1 << power, (1 << power) + 1, 3 << power]
        }
        var previous = -1
        for bytes in sizes.sorted() {
            let sizeClass = BufferPool.sizeClass(forBytes: bytes)
            let room = BufferPool.bytes(ofClass: sizeClass)
            #expect(room >= bytes)
            #expect(room % 64 == 0)
            #expect(sizeClass >= previous)
            previous = sizeClass
            // It is the smallest that holds them.
            if sizeClass > 0 { #expect(BufferPool.bytes(ofClass: sizeClass - 1) < max(bytes, 1)) }
            let units = max((bytes + 63) / 64, 1)
            if units > 4 { #expect(Double(room) <= 1.25 * Double(units * 64)) }
        }
    }

    // Other tests use the pool at the same time; none has tensors as large as these.
    private static let sizes = [9_000_011, 12_000_017, 9_000_011, 20_000_003, 15_000_001]

    private func addresses() -> Set<UInt> {
        let tensors = Self.sizes.map { size in
            unsafe Tensor([size]) { unsafe $0[size - 1] = 1 }
        }
        return Set(tensors.map { unsafe $0.reading { UInt(bitPattern: $0) } })
    }

    @Test func blocksAreUsedAgain() {
        let first = addresses()
        #expect(first.count == Self.sizes.count)
        for _ in 0..<5 { #expect(addresses() == first) }
    }

    @Test func aSteadyStateAsksTheSystemForNothing() async {
        // In a process of its own: the counts are the whole process's.
        await #expect(processExitsWith: .success) {
            func step() {
                var kept: [Tensor] = []
                for size in [1, 16, 17, 100, 1_000, 33_333, 1_000, 17] {
                    kept.append(Tensor(repeating: 1, shape: [size]))
                    if kept.count > 3 { kept.removeFirst() }
                }
            }
            step()
            let before = BufferPool.shared.statistics
            for _ in 0..<100 { step() }
            let after = BufferPool.shared.statistics
            precondition(after.systemAllocations == before.systemAllocations)
            precondition(after.reserved == before.reserved)
            precondition(after.live == before.live)
            precondition(before.systemAllocations > 0 && before.peak > before.live)
        }
    }

    @Test func statisticsFollowTensors() async {
        await #expect(processExitsWith: .success) {
            let start = BufferPool.shared.statistics.live
            var tensor: Tensor? = Tensor.zeros([16_384])
            let live = BufferPool.shared.statistics.live - start
            precondition(live >= 65_536 && live <= 65_536 * 5 / 4)
            precondition(tensor?.count == 16_384)
            tensor = nil
            precondition(BufferPool.shared.statistics.live == start)
            precondition(BufferPool.shared.statistics.peak >= start + live)
            BufferPool.shared.resetPeak()
            precondition(BufferPool.shared.statistics.peak == start)
        }
    }

    @Test func blocksAreAlignedAndDistinct() {
        let tensors = (1...200).map { Tensor(repeating: Float($0), shape: [$0]) }
        for (index, tensor) in tensors.enumerated() {
            #expect(unsafe tensor.reading { UInt(bitPattern: $0) } % 64 == 0)
            #expect(tensor.elements.allSatisfy { $0 == Float(index + 1) })
        }
    }
}
