import EspalierTensors
import Testing

@Suite struct MaskTests {
    @Test(arguments: [0, 1, 63, 64, 65, 127, 128, 997]) func bits(_ count: Int) {
        let live = RandomStream(seed: 1).words(count).map { $0 & 1 == 1 }
        let mask = Mask(shape: [count]) { live[$0] }
        #expect((0..<count).map { mask.isLive($0) } == live)
        #expect(mask.liveCount == live.count { $0 })
        #expect(mask.words.count == (count + 63) / 64)
        let sparsity = count == 0 ? 0 : Double(live.count { !$0 }) / Double(count)
        #expect(abs(mask.sparsity - sparsity) < 1e-12)
        #expect(Mask(words: mask.words, shape: [count]) == mask)
    }

    @Test func fingerprintsSeeEveryBitAndTheShape() {
        let base = Mask(shape: [10, 13]) { $0 % 3 == 0 }
        var seen: Set<UInt64> = [base.fingerprint]
        for flipped in 0..<130 {
            seen.insert(Mask(shape: [10, 13]) { ($0 % 3 == 0) != ($0 == flipped) }.fingerprint)
        }
        for shape: Shape in [[13, 10], [130], [1, 10, 13], [10, 13, 1]] {
            seen.insert(Mask(words: base.words, shape: shape).fingerprint)
        }
        #expect(seen.count == 1 + 130 + 4)
        #expect(Mask(shape: [10, 13]) { $0 % 3 == 0 }.fingerprint == base.fingerprint)
    }

    @Test func mistakesTrap() async {
        await #expect(processExitsWith: .failure) { _ = Mask(words: [0, 0], shape: [64]) }
        await #expect(processExitsWith: .failure) { _ = Mask(words: [], shape: [1]) }
        await #expect(processExitsWith: .failure) { _ = Mask(words: [1 << 3], shape: [3]) }
    }
}
