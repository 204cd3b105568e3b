/// Where slots lie in a column's memory: those that are not alive at the same time may share it.
enum MemoryPlan {
    /// The beginning of each slot, and the bytes of all.
    static func places(
        steps: [any Step], sizes: [Int], output: Int
    ) -> (places: [Int], bytes: Int) {
        var life = [ClosedRange<Int>?](repeating: nil, count: sizes.count)
        func lives(_ slot: Int, at step: Int) {
            guard slot >= 0 else { return }
            life[slot] = life[slot].map { $0.lowerBound...max($0.upperBound, step) } ?? step...step
        }
        for (index, step) in steps.enumerated() {
            for slot in step.reads + step.writes { lives(slot, at: index) }
        }
        lives(output, at: steps.count)
        // Large ones first: each at the lowest place that no slot alive at the same time takes.
        var places = [Int](repeating: 0, count: sizes.count)
        var placed: [Int] = []
        var total = 0
        for slot in sizes.indices.sorted(by: { (-sizes[$0], $0) < (-sizes[$1], $1) }) {
            guard let own = life[slot] else { continue }
            let taken = placed.filter { life[$0].map { $0.overlaps(own) } ?? false }
                .map { places[$0]..<places[$0] + aligned(sizes[$0]) }
                .sorted { $0.lowerBound < $1.lowerBound }
            var place = 0
            for range in taken {
                if range.lowerBound >= place + aligned(sizes[slot]) { break }
                place = max(place, range.upperBound)
            }
            places[slot] = place
            placed.append(slot)
            total = max(total, place + aligned(sizes[slot]))
        }
        return (places, total)
    }

    // Whole cache lines; kernels may read a little beyond the last code.
    private static func aligned(_ size: Int) -> Int { (size + 63) / 64 * 64 + 64 }
}
