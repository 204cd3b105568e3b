public import EspalierTensors

/// Chooses which weights to prune.
public struct MaskSelection: Sendable, Hashable {
    /// What a weight is judged by.
    public enum Criterion: String, Sendable, Hashable, CaseIterable {
        /// Small weights go first; a block's score is the sum of its magnitudes.
        case magnitude
        /// Drawn by lot: a control.
        case random
    }

    /// What is ranked together.
    public enum Scope: String, Sendable, Hashable, CaseIterable {
        /// Each weight tensor by itself: the same sparsity in all.
        case layer
        /// All together.
        case global
    }

    /// Which weights go together.
    public var pattern: SparsityPattern
    /// What is ranked together.
    public var scope: Scope
    /// What a weight is judged by.
    public var criterion: Criterion

    /// A way of choosing.
    public init(
        pattern: SparsityPattern, scope: Scope = .layer, criterion: Criterion = .magnitude
    ) {
        self.pattern = pattern
        self.scope = scope
        self.criterion = criterion
    }

    /// A weight to choose from.
    public struct Candidate {
        /// The weight.
        public let value: Tensor
        /// What is pruned already; it stays pruned, and ranks before everything else.
        public let mask: Mask?

        /// A weight with its present mask.
        public init(_ value: Tensor, mask: Mask? = nil) {
            self.value = value
            self.mask = mask
        }
    }

    /// Masks under which exactly round-half-even(sparsity * n) blocks of each scope are pruned.
    ///
    /// Those with the lowest score go; among equals, the one with the lowest index in row-major order.
    ///
    /// - Parameter random: The lots of the random criterion.
    /// - Precondition: the pattern's blocks divide every weight.
    public func masks(
        for candidates: [Candidate], sparsity: Double, random: RandomStream = RandomStream(seed: 0)
    ) -> [Mask] {
        require((0...1).contains(sparsity), "a sparsity of \(sparsity) is not in 0...1")
        let grids = candidates.map { candidate in
            guard let grid = pattern.grid(over: candidate.value.shape) else {
                fatalError("\(pattern) do not divide a weight of \(candidate.value.shape)")
            }
            return grid
        }
        let ranks = zip(candidates, grids).enumerated().map { index, pair in
            self.ranks(pair.0, pair.1, random.child(UInt64(index)))
        }
        var pruned: [[Bool]] = []
        switch scope {
        case .layer:
            for ranks in ranks {
                pruned.append(lowest(MaskSelection.count(sparsity, of: ranks.count), of: ranks))
            }
        case .global:
            let all = ranks.flatMap(\.self)
            var flags = lowest(MaskSelection.count(sparsity, of: all.count), of: all)[...]
            for ranks in ranks {
                pruned.append(Array(flags.prefix(ranks.count)))
                flags = flags.dropFirst(ranks.count)
            }
        }
        return zip(zip(candidates, grids), pruned).map { pair, pruned in
            let (candidate, grid) = pair
            return Mask(shape: candidate.value.shape) {
                !pruned[grid.block(of: $0)] && (candidate.mask?.isLive($0) ?? true)
            }
        }
    }

    /// round-half-even(sparsity * count)
    public static func count(_ sparsity: Double, of count: Int) -> Int {
        Int((sparsity * Double(count)).rounded(.toNearestOrEven))
    }

    // A rank orders as its score does: 0 for what is pruned, else one more than the bits of a float that is
    // not negative, or a lot.
    private func ranks(_ candidate: Candidate, _ grid: BlockGrid, _ random: RandomStream)
        -> [UInt64]
    {
        var ranks: [UInt64]
        switch criterion {
        case .random:
            ranks = random.words(grid.count).map { UInt64($0) + 1 }
        case .magnitude:
            var scores = [Double](repeating: 0, count: grid.count)
            let weights = candidate.value.span
            for index in weights.indices {
                scores[grid.block(of: index)] += Double(weights[index].magnitude)
            }
            ranks = scores.map { $0.bitPattern + 1 }
        }
        if let mask = candidate.mask {
            var live = [Bool](repeating: false, count: grid.count)
            for index in 0..<candidate.value.count where mask.isLive(index) {
                live[grid.block(of: index)] = true
            }
            for block in 0..<grid.count where !live[block] { ranks[block] = 0 }
        }
        return ranks
    }

    /// Flags the `count` lowest ranks, lower indices first among equals.
    private func lowest(_ count: Int, of ranks: [UInt64]) -> [Bool] {
        var flags = [Bool](repeating: false, count: ranks.count)
        // Never fewer than are pruned already.
        let count = max(count, ranks.count { $0 == 0 })
        guard count > 0 else { return flags }
        let threshold = MaskSelection.element(count - 1, of: ranks)
        var equals = count
        for rank in ranks where rank < threshold { equals -= 1 }
        for index in ranks.indices {
            if ranks[index] < threshold {
                flags[index] = true
            } else if ranks[index] == threshold, equals > 0 {
                flags[index] = true
                equals -= 1
            }
        }
        return flags
    }

    /// The element that would stand at `position` if `values` were sorted: 16 bits at a time from the top.
    package static func element(_ position: Int, of values: [UInt64]) -> UInt64 {
        var position = position
        var (prefix, known): (UInt64, UInt64) = (0, 0)
        for shift in stride(from: 48, through: 0, by: -16) {
            var histogram = [Int](repeating: 0, count: 65_536)
            for value in values where value & known == prefix {
                histogram[Int(value >> UInt64(shift) & 0xFFFF)] += 1
            }
            var digit = 0
            while position >= histogram[digit] {
                position -= histogram[digit]
                digit += 1
            }
            prefix |= UInt64(digit) << UInt64(shift)
            known |= 0xFFFF << UInt64(shift)
        }
        return prefix
    }
}
