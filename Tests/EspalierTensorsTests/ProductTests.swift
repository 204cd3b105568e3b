import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// What a product is asked for.
private struct ProductCase: Sendable, CustomStringConvertible {
    var rows: Int
    var columns: Int
    var depth: Int
    var transposesA = false
    var transposesB = false
    var isRounded = false
    var halves = HalfProducts.widened
    var hasBias = false
    var accumulates = false

    var description: String {
        "\(rows)x\(columns)x\(depth)\(transposesA ? " At" : "")\(transposesB ? " Bt" : "")"
            + "\(isRounded ? " rounded \(halves)" : "")\(hasBias ? " bias" : "")\(accumulates ? " +=" : "")"
    }

    /// All ways for extents that are 0, 1, primes, and multiples of tiles and blocks.
    static let all: [ProductCase] = {
        let extents = [
            (1, 1, 1), (1, 37, 53), (3, 100, 70), (4, 33, 41), (5, 700, 384), (16, 96, 64),
            (29, 10, 127), (31, 257, 19), (64, 64, 1), (64, 64, 0), (0, 5, 3), (5, 0, 3),
            (128, 80, 33), (131, 47, 263), (200, 130, 800), (480, 33, 1_100), (257, 509, 61),
        ]
        let options: [(Bool, Bool, Bool, HalfProducts)] = [
            (false, false, false, .widened), (true, false, false, .widened),
            (false, true, false, .widened), (true, false, true, .widened),
            (true, false, true, .native), (false, true, true, .native),
        ]
        var cases: [ProductCase] = []
        for (index, (rows, columns, depth)) in extents.enumerated() {
            for way in 0..<4 {
                for (option, (bias, accumulates, rounded, halves)) in options.enumerated()
                where index < 13 || (index + way + option) % 2 == 0 {
                    cases.append(
                        ProductCase(
                            rows: rows, columns: columns, depth: depth, transposesA: way & 1 != 0,
                            transposesB: way & 2 != 0, isRounded: rounded, halves: halves,
                            hasBias: bias, accumulates: accumulates))
                }
            }
        }
        return cases
    }()

    /// Pairs of bfloat16 for random extents, in all ways.
    static let halves: [ProductCase] = {
        var state: UInt64 = 2026
        func extent(_ most: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % (most + 1)
        }
        return (0..<60).map { index in
            return ProductCase(
                rows: extent(90), columns: extent(110), depth: extent(index % 5 == 0 ? 2_200 : 90),
                transposesA: index & 1 != 0, transposesB: index & 2 != 0, isRounded: true,
                halves: .native, hasBias: index % 3 == 1, accumulates: index % 3 == 2)
        }
    }()
}

private func bf16(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

@Suite struct ProductTests {
    /// Within the rounding of so many floats of the naive sum, on each ISA; nothing beside C is written, each part of it
    /// is reported once, and C and the sums of A's rows are bit for bit the same on one thread.
    @Test func agreesWithNaive() {
        for test in ProductCase.all { check(test) }
    }

    @Test func pairsAgreeWithNaive() {
        for test in ProductCase.halves { check(test) }
    }

    private func check(_ test: ProductCase) {
        let (rows, columns, depth) = (test.rows, test.columns, test.depth)
        let a = numbers(rows * depth, 1)
        let b = numbers(depth * columns, 2)
        let bias = numbers(columns, 3)
        let pitch = columns + 3
        let before = numbers(max(rows * pitch - 3, 0), 4)
        var (want, bound) = ([Double](), [Double]())
        for i in 0..<rows {
            for j in 0..<columns {
                var (sum, size) = (0.0, 0.0)
                if test.accumulates { sum = Double(before[i * pitch + j]) }
                if test.hasBias { sum = Double(bias[j]) }
                size = abs(sum)
                for k in 0..<depth {
                    var x = test.transposesA ? a[k * rows + i] : a[i * depth + k]
                    var y = test.transposesB ? b[j * depth + k] : b[k * columns + j]
                    if test.isRounded { (x, y) = (bf16(x), bf16(y)) }
                    sum += Double(x) * Double(y)
                    size += abs(Double(x) * Double(y))
                }
                want.append(sum)
                bound.append(size * floatEpsilon * (2 + Double(depth).squareRoot()))
            }
        }
        let wantsSums = test.transposesA && !test.isRounded
        for isa in ISA.available {
            var first: (c: [Float], sums: [Float])?
            for width in [ThreadPool.coreCount, 1] {
                let (x, y, start) = (Guarded(a), Guarded(b), Guarded(bias))
                let (c, sums) = (Guarded(before), Guarded<Float>(7, count: rows))
                var product = unsafe Product(
                    MatrixOperand(
                        x.pointer, pitch: test.transposesA ? rows : depth,
                        transposed: test.transposesA),
                    MatrixOperand(
                        y.pointer, pitch: test.transposesB ? depth : columns,
                        transposed: test.transposesB), rows: rows, columns: columns, depth: depth)
                unsafe product.isRounded = test.isRounded
                unsafe product.halves = test.halves
                unsafe product.bias = test.hasBias ? UnsafePointer(start.pointer) : nil
                unsafe product.accumulates = test.accumulates
                unsafe product.kernels = kernels(isa)
                // An A that is computed as the right factor is not copied.
                let copiesA = wantsSums && !test.transposesB
                unsafe product.rowSums = copiesA ? sums.pointer : nil
                let reported = Guarded<Int32>(0, count: rows * columns)
                ThreadPool.shared.width = width
                unsafe product.multiply(into: c.pointer, pitch: pitch) { rows, part in
                    for row in rows {
                        for column in part { unsafe reported.pointer[row * columns + column] += 1 }
                    }
                }
                ThreadPool.shared.width = ThreadPool.coreCount
                let got = c.values
                #expect(reported.values.allSatisfy { $0 == 1 }, "\(test) \(isa): parts")
                if let wrong = want.indices.first(where: {
                    !(abs(Double(got[$0 / columns * pitch + $0 % columns]) - want[$0]) <= bound[$0])
                }) {
                    Issue.record("\(test) on \(isa) at \(wrong): \(want[wrong])")
                }
                if let gap = got.indices.first(where: {
                    $0 % pitch >= columns && got[$0] != before[$0]
                }) {
                    Issue.record("\(test) on \(isa) wrote between the rows at \(gap)")
                }
                if copiesA, columns > 0 {
                    for (i, sum) in sums.values.enumerated() {
                        var (true_, size) = (0.0, 0.0)
                        for k in 0..<depth {
                            true_ += Double(a[k * rows + i])
                            size += abs(Double(a[k * rows + i]))
                        }
                        #expect(
                            abs(Double(sum) - true_) <= size * floatEpsilon * Double(depth + 1),
                            "\(test) on \(isa): sum of row \(i)")
                    }
                }
                if let first {
                    #expect(first.c.map(\.bitPattern) == got.map(\.bitPattern), "\(test) \(isa)")
                    #expect(first.sums == sums.values, "\(test) \(isa)")
                }
                first = (got, sums.values)
            }
        }
    }
}
