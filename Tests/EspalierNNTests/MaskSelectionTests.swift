import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct MaskSelectionTests {
    /// Layers of different present sparsity, and a mask that cuts through blocks.
    @Test func prunedStaysPrunedWhateverTheStart() {
        let weights = [Fixtures.normal([8, 8], seed: 1), Fixtures.normal([8, 8], seed: 2)]
        let sparse = Mask(shape: [8, 8]) { $0 % 8 == 3 }
        for scope in MaskSelection.Scope.allCases {
            for pattern in [SparsityPattern.unstructured, .block(outputs: 1, inputs: 4)] {
                let masks = MaskSelection(pattern: pattern, scope: scope).masks(
                    for: [
                        MaskSelection.Candidate(weights[0], mask: sparse),
                        MaskSelection.Candidate(weights[1]),
                    ], sparsity: 0.25)
                for index in 0..<64 where !sparse.isLive(index) {
                    #expect(!masks[0].isLive(index), "\(scope), \(pattern), \(index)")
                }
            }
        }
    }

    private func pruned(_ mask: Mask) -> [Int] {
        (0..<mask.shape.elementCount).filter { !mask.isLive($0) }
    }

    @Test func countsAreRoundedHalfToEven() {
        #expect(MaskSelection.count(0.5, of: 5) == 2)
        #expect(MaskSelection.count(0.5, of: 7) == 4)
        #expect(MaskSelection.count(0.25, of: 10) == 2)
        #expect(MaskSelection.count(0.75, of: 10) == 8)
        #expect(MaskSelection.count(0, of: 10) == 0)
        #expect(MaskSelection.count(1, of: 10) == 10)
        let selection = MaskSelection(pattern: .unstructured)
        for size in [1, 2, 7, 64, 65, 997] {
            let weight = Fixtures.normal([size], seed: UInt64(size))
            for sparsity in [0, 0.1, 0.25, 0.5, 0.9, 0.99, 1] {
                let mask = selection.masks(for: [.init(weight)], sparsity: sparsity)[0]
                #expect(pruned(mask).count == MaskSelection.count(sparsity, of: size))
            }
        }
    }

    @Test func whatIsPrunedIsTheSmallest() {
        let weight = Fixtures.normal([31, 17], seed: 1)
        let mask = MaskSelection(pattern: .unstructured).masks(for: [.init(weight)], sparsity: 0.6)[
            0]
        let magnitudes = weight.elements.map(abs)
        let largest = pruned(mask).map { magnitudes[$0] }.max() ?? 0
        let smallest = (0..<527).filter { mask.isLive($0) }.map { magnitudes[$0] }.min() ?? 0
        #expect(largest < smallest)
    }

    @Test func amongEqualsTheFirstGo() {
        let weight = Tensor([1, -1, 1, 0.5, -1, 1], shape: [6])
        let selection = MaskSelection(pattern: .unstructured)
        #expect(pruned(selection.masks(for: [.init(weight)], sparsity: 0.5)[0]) == [0, 1, 3])
        let both = MaskSelection(pattern: .unstructured, scope: .global)
            .masks(for: [.init(weight), .init(weight)], sparsity: 0.5)
        #expect(both.map(pruned) == [[0, 1, 2, 3, 4], [3]])
    }

    @Test func globalRanksAllTogether() {
        let small = Tensor([0.1, 0.2, 0.3, 0.4], shape: [4])
        let large = Tensor([1, 2, 0.15, 4], shape: [2, 2])
        let candidates = [MaskSelection.Candidate(small), MaskSelection.Candidate(large)]
        let masks = MaskSelection(pattern: .unstructured, scope: .global)
            .masks(for: candidates, sparsity: 0.5)
        #expect(masks.map(pruned) == [[0, 1, 2], [2]])
        #expect(masks[1].shape == [2, 2])
    }

    @Test func blocksGoTogether() {
        // Sums of magnitudes of the 2 x 2 blocks: 4, 9, 1.5, 4.
        let weight = Tensor(
            [1, -1, 2, 3, 1, 1, 2, -2, 0.5, 0, 1, 1, 0, -1, 1, 1], shape: [4, 4])
        let selection = MaskSelection(pattern: .block(outputs: 2, inputs: 2))
        #expect(pruned(selection.masks(for: [.init(weight)], sparsity: 0.25)[0]) == [8, 9, 12, 13])
        #expect(
            pruned(selection.masks(for: [.init(weight)], sparsity: 0.5)[0])
                == [0, 1, 4, 5, 8, 9, 12, 13])
        // Inputs of a convolution are channels of one tap.
        let taps = Tensor((0..<24).map { Float(24 - $0) }, shape: [2, 3, 1, 4])
        let rows = MaskSelection(pattern: .block(outputs: 1, inputs: 4))
        #expect(pruned(rows.masks(for: [.init(taps)], sparsity: 0.2)[0]) == [20, 21, 22, 23])
    }

    @Test func prunedStaysPruned() {
        // Live weights of 0 rank after the pruned ones, although these have lower magnitude by
        // nothing.
        let weight = Tensor([Float](repeating: 0, count: 8), shape: [8])
        let mask = Mask(shape: [8]) { $0 < 4 }
        let selection = MaskSelection(pattern: .unstructured)
        let next = selection.masks(for: [.init(weight, mask: mask)], sparsity: 0.75)[0]
        #expect(pruned(next) == [0, 1, 4, 5, 6, 7])
        let random = MaskSelection(pattern: .unstructured, criterion: .random)
        var all: Set<[Int]> = []
        for seed in 0..<20 {
            let next = random.masks(
                for: [.init(weight, mask: mask)], sparsity: 0.75,
                random: RandomStream(seed: UInt64(seed)))[0]
            #expect(pruned(next).count == 6)
            #expect(Set(pruned(next)).isSuperset(of: [4, 5, 6, 7]))
            all.insert(pruned(next))
        }
        #expect(all.count > 1)
    }

    @Test func blocksThatDoNotDivideTrap() async {
        await #expect(processExitsWith: .failure) {
            _ = MaskSelection(pattern: .block(outputs: 2, inputs: 3))
                .masks(for: [.init(.zeros([4, 4]))], sparsity: 0.5)
        }
    }

    @Test func elementIsThatOfTheSortedArray() {
        for count in [1, 2, 3, 17, 1_000] {
            let words = RandomStream(seed: UInt64(count)).words(2 * count)
            let wide = (0..<count).map { UInt64(words[2 * $0]) << 32 | UInt64(words[2 * $0 + 1]) }
            for values in [
                wide, wide.map { $0 & 7 }, wide.map { ($0 >> 47) << 47 }, wide.map { _ in .max },
            ] {
                let sorted = values.sorted()
                for position in Set([0, count / 3, count / 2, count - 1]) {
                    #expect(MaskSelection.element(position, of: values) == sorted[position])
                }
            }
        }
    }
}
