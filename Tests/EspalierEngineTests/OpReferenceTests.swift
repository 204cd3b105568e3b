import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors
import EspalierTesting
import Testing

/// The op families against loops that are nothing but the definition, at sizes past a thread's share of work.
@Suite struct OpReferenceTests {
    private let tape = Tape(mode: .evaluation)

    private func normal(_ shape: Shape, _ seed: UInt64 = 1) -> Tensor {
        Fixtures.normal(shape, seed: seed)
    }

    /// The index of each element along each axis, in order.
    private func forEachIndex(_ shape: Shape, _ body: ([Int], Int) -> Void) {
        let strides = shape.strides
        for flat in 0..<shape.elementCount {
            body(shape.indices.map { flat / strides[$0] % shape[$0] }, flat)
        }
    }

    private func place(_ index: [Int], _ shape: Shape) -> Int {
        zip(index, shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
    }

    @Test func permutations() {
        let x = normal([37, 40, 23])
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let y = tape.input(x).permuted(order).tensor
            #expect(y.shape == Shape(order.map { x.shape[$0] }))
            let (from, to) = (x.elements, y.elements)
            var wrong = 0
            forEachIndex(y.shape) { index, flat in
                var source = index
                for (axis, old) in order.enumerated() { source[old] = index[axis] }
                if to[flat] != from[place(source, x.shape)] { wrong += 1 }
            }
            #expect(wrong == 0, "\(order)")
        }
    }

    @Test func slicesAndTheirGradients() {
        let x = normal([70, 31, 19])
        let parts = [
            Op.Slice.Part(axis: 0, start: -2, end: 3, step: -3), .init(axis: 2, start: 1, step: 2),
        ]
        let tape = Tape(mode: .training)
        let value = tape.variable(x)
        let y = value.sliced(parts)
        let kept = Array(stride(from: 68, to: 3, by: -3))
        #expect(y.shape == [kept.count, 31, 9])
        let dy = normal(y.shape, 2)
        let dx = tape.gradients(of: y, upstream: dy, for: [value]).values[0]
        var expected = [Float](repeating: 0, count: x.count)
        let got = y.tensor.elements
        forEachIndex(y.shape) { index, flat in
            let source = place([kept[index[0]], index[1], 1 + 2 * index[2]], x.shape)
            if got[flat] != x.span[source] { Issue.record("at \(index)") }
            expected[source] = dy.span[flat]
        }
        #expect(dx.elements == expected)
    }

    @Test func broadcasting() {
        let shapes: [(Shape, Shape)] = [
            ([300, 70], [70]), ([70], [300, 70]), ([40, 30, 20], [1, 30, 20]), ([3_001], []),
            ([], [3_001]), ([300, 70], [300, 1]), ([300, 1], [70]), ([1, 1, 5], [2_000, 5]),
            ([0, 3], [3]),
        ]
        for (a, b) in shapes {
            let (x, y) = (normal(a), normal(b, 2))
            guard let shape = a.broadcast(with: b) else { continue }
            let results = [
                (tape.input(x) - tape.input(y)).tensor, (tape.input(x) + tape.input(y)).tensor,
            ]
            for result in results { #expect(result.shape == shape) }
            let (left, right) = (x.elements, y.elements)
            let (differences, added) = (results[0].elements, results[1].elements)
            var wrong = 0
            func own(_ index: [Int], _ shape: Shape) -> Int {
                let last = index.suffix(shape.rank)
                return place(zip(last, shape).map { $1 == 1 ? 0 : $0 }, shape)
            }
            forEachIndex(shape) { index, flat in
                let (u, v): (Float, Float) = (left[own(index, a)], right[own(index, b)])
                if differences[flat] != u - v || added[flat] != u + v { wrong += 1 }
            }
            #expect(wrong == 0, "\(a) and \(b)")
            // Sums back to what was broadcast.
            let wide = normal(shape, 3)
            for target in [a, b] {
                var sums = [Double](repeating: 0, count: target.elementCount)
                forEachIndex(shape) { sums[own($0, target)] += Double(wide.span[$1]) }
                let got = Kernels.sum(wide, to: target)
                #expect(got.shape == target)
                for (x, sum) in zip(got.elements, sums) {
                    #expect(abs(Double(x) - sum) <= 2e-4, "\(shape) to \(target)")
                }
            }
        }
    }

    @Test func reductions() {
        let x = normal([45, 30, 35])
        for axes in [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]] {
            let kept = (0..<3).filter { !axes.contains($0) }
            let shape = Shape(kept.map { x.shape[$0] })
            var (sums, squares) = (
                [Double](repeating: 0, count: shape.elementCount),
                [Double](repeating: 0, count: shape.elementCount)
            )
            var largest = [Float](repeating: -.infinity, count: shape.elementCount)
            forEachIndex(x.shape) { index, flat in
                let own = place(kept.map { index[$0] }, shape)
                let value = x.span[flat]
                sums[own] += Double(value)
                squares[own] += Double(value) * Double(value)
                largest[own] = max(largest[own], value)
            }
            let count = Double(x.count / shape.elementCount)
            let value = tape.input(x)
            let (sum, variance) = (value.sum(axes: axes), value.variance(axes: axes, correction: 1))
            #expect(sum.shape == shape && variance.shape == shape)
            #expect(value.largest(axes: axes).tensor.elements == largest)
            let (gotSums, gotVariances) = (sum.tensor.elements, variance.tensor.elements)
            for own in 0..<shape.elementCount {
                let truth = (squares[own] - sums[own] * sums[own] / count) / (count - 1)
                #expect(abs(Double(gotSums[own]) - sums[own]) < 2e-3, "\(axes)")
                #expect(abs(Double(gotVariances[own]) - truth) < 1e-4, "\(axes)")
            }
        }
    }

    @Test func lookups() {
        let x = normal([60, 50, 9])
        let draws = RandomStream(seed: 3).integers(400, below: 50).map { Int32($0) }
        let y = tape.input(x).taken(axis: 1, IndexTensor(draws, shape: [20, 20])).tensor
        #expect(y.shape == [60, 20, 20, 9])
        var wrong = 0
        forEachIndex(y.shape) { index, flat in
            let entry = Int(draws[index[1] * 20 + index[2]])
            if y.span[flat] != x.span[place([index[0], entry, index[3]], x.shape)] { wrong += 1 }
        }
        #expect(wrong == 0)
    }

    @Test func cumulativeSums() {
        let x = normal([50, 40, 30])
        for axis in 0..<3 {
            let y = tape.input(x).cumulativeSum(axis: axis).tensor
            var wrong = 0
            forEachIndex(x.shape) { index, flat in
                var before = index
                before[axis] -= 1
                let start = index[axis] == 0 ? 0 : y.span[place(before, x.shape)]
                if y.span[flat] != start + x.span[flat] { wrong += 1 }
            }
            #expect(wrong == 0)
        }
    }

    @Test func products() {
        let shapes: [(Shape, Shape)] = [
            ([3, 130, 70], [3, 70, 90]), ([2, 1, 33, 65], [3, 65, 17]), ([4, 50, 60], [60, 70]),
            ([300, 200], [200, 150]),
        ]
        for (a, b) in shapes {
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                func stored(_ shape: Shape, _ isTransposed: Bool) -> Shape {
                    var shape = shape
                    let rank = shape.rank
                    if isTransposed {
                        (shape[rank - 2], shape[rank - 1]) = (shape[rank - 1], shape[rank - 2])
                    }
                    return shape
                }
                let (x, y) = (normal(stored(a, ta)), normal(stored(b, tb), 2))
                let product = tape.input(x).matMul(
                    tape.input(y), transposed: ta, otherTransposed: tb
                ).tensor
                // Each of them as it is meant, broadcast by hand.
                let batch = Shape(product.shape.dropLast(2))
                let rows = a[a.rank - 2]
                let (depth, columns) = (b[b.rank - 2], b[b.rank - 1])
                let left = (ta ? tape.input(x).transposed(-1, -2).tensor : x)
                    .broadcast(to: Shape(batch + [rows, depth])).elements
                let right = (tb ? tape.input(y).transposed(-1, -2).tensor : y)
                    .broadcast(to: Shape(batch + [depth, columns])).elements
                var worst = 0.0
                for flat in 0..<product.count where flat % 7 == 0 {
                    let (row, column) = (flat / columns, flat % columns)
                    let matrix = row / rows
                    let sum = (0..<depth).reduce(0.0) {
                        $0 + Double(left[row * depth + $1])
                            * Double(right[(matrix * depth + $1) * columns + column])
                    }
                    worst = max(worst, abs(Double(product.span[flat]) - sum))
                }
                #expect(worst < 1e-4, "\(a) \(ta), \(b) \(tb)")
            }
        }
    }
}
