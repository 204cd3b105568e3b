import EspalierTensors
import Testing

@Suite struct RandomTests {
    private let random = RandomStream(seed: 42)

    @Test func aNumberHasAnAddress() {
        let all = random.words(1_000)
        for count in [0, 1, 3, 4, 5, 63, 64, 65, 997] {
            #expect(random.words(count) == Array(all.prefix(count)))
        }
        // Other draws in between change nothing.
        let child = random.child(7).normal(10)
        _ = random.child(3).permutation(100)
        _ = random.uniform(50)
        #expect(random.child(7).normal(10) == child)
        #expect(RandomStream(seed: 42).words(1_000) == all)
    }

    @Test func streamsDiffer() {
        var seen: Set<[UInt32]> = []
        func add(_ stream: RandomStream) { seen.insert(stream.words(4)) }
        add(random)
        add(RandomStream(seed: 43))
        for index in 0..<1_000 { add(random.child(UInt64(index))) }
        for index in 0..<100 { add(random.child(1).child(UInt64(index))) }
        for name in ["a", "b", "ab", "ba", ""] { add(random.child(name)) }
        add(random.child("a").child("b"))
        add(random.child("b").child("a"))
        #expect(seen.count == 2 + 1_000 + 100 + 5 + 2)
    }

    @Test func uniformNumbers() {
        let x = random.uniform(100_000)
        #expect(x.allSatisfy { $0 >= 0 && $0 < 1 })
        let mean = x.reduce(0.0) { $0 + Double($1) } / 1e5
        let variance = x.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / 1e5
        // Five standard errors.
        #expect(abs(mean - 0.5) < 5 * 0.2887 / 316.2)
        #expect(abs(variance - 1.0 / 12) < 0.0015)
    }

    @Test func normalNumbers() {
        let x = random.normal(100_001)
        #expect(x.count == 100_001)
        #expect(x.allSatisfy { $0.isFinite })
        let n = Double(x.count)
        let mean = x.reduce(0.0) { $0 + Double($1) } / n
        let variance = x.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / n
        #expect(abs(mean) < 5 / n.squareRoot())
        #expect(abs(variance - 1) < 5 * (2 / n).squareRoot())
        let tail = Double(x.count { abs($0) > 1.96 }) / n
        #expect(abs(tail - 0.05) < 0.0035)
        // The two of a pair are independent.
        let products = stride(from: 0, to: x.count - 1, by: 2).map {
            Double(x[$0]) * Double(x[$0 + 1])
        }
        let correlation = products.reduce(0, +) / Double(products.count)
        #expect(abs(correlation) < 5 / Double(products.count).squareRoot())
    }

    @Test(arguments: [0, 1, 2, 3, 17, 1_000]) func permutations(_ count: Int) {
        let order = random.permutation(count)
        #expect(order.sorted() == Array(0..<count))
        if count > 3 { #expect(order != Array(0..<count)) }
    }

    @Test func permutationsAreUniform() {
        var counts: [[Int]: Int] = [:]
        for index in 0..<6_000 {
            counts[random.child(UInt64(index)).permutation(3), default: 0] += 1
        }
        #expect(counts.count == 6)
        #expect(counts.values.allSatisfy { abs($0 - 1_000) < 150 })
    }

    @Test func integersStayBelowTheirBound() {
        for bound in [1, 2, 3, 10, 1_000_003, Int(UInt32.max)] {
            #expect(random.integers(2_000, below: bound).allSatisfy { (0..<bound).contains($0) })
        }
        let counts = random.integers(10_000, below: 10).reduce(into: [Int](repeating: 0, count: 10))
        {
            $0[$1] += 1
        }
        #expect(counts.allSatisfy { abs($0 - 1_000) < 150 })
    }

    @Test func keepMaskKeepsTheShareAsked() {
        for dropped: Float in [0, 0.1, 0.5, 0.9] {
            let mask = random.keepMask([100, 1_000], dropped: dropped, value: 2).elements
            #expect(mask.allSatisfy { $0 == 2 || $0.bitPattern == 0 })
            let share = Double(mask.count { $0 == 0 }) / Double(mask.count)
            #expect(abs(share - Double(dropped)) < 0.01)
            if dropped == 0 { #expect(share == 0) }
        }
    }
}
