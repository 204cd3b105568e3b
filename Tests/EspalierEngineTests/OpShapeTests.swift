import EspalierEngine
import EspalierGraph
import EspalierTensors
import Testing

/// Operands that do not fit, and what an op says about them.
private let mistakes: [(op: Op, shapes: [Shape])] = [
    (.binary(Op.Binary(.multiply)), [[3, 4], [3]]),
    (.select(Op.Select()), [[3], [4], [1]]),
    (.fill(Op.Fill(value: 0)), [[3], [2, 3]]),
    (.reduce(Op.Reduce(.sum, axes: [2])), [[3, 4]]),
    (.reduce(Op.Reduce(.sum, axes: [0, -2])), [[3, 4]]),
    (.reduce(Op.Reduce(.largest, axes: [1])), [[3, 0]]),
    (.cumulativeSum(Op.CumulativeSum(axis: 1)), [[3]]),
    (.permute(Op.Permute([0, 0])), [[3, 4]]),
    (.slice(Op.Slice([.init(axis: 2)])), [[3, 4]]),
    (.slice(Op.Slice([.init(axis: 0, step: 0)])), [[3, 4]]),
    (.concatenate(Op.Concatenate(axis: 0)), [[3, 4], [3, 5]]),
    (.concatenate(Op.Concatenate(axis: 1)), [[3, 4], [3]]),
    (.pad(Op.Pad(.constant(0), before: [0], after: [0])), [[3, 4]]),
    (.pad(Op.Pad(.constant(0), before: [-2], after: [-2])), [[3]]),
    (.pad(Op.Pad(.reflect, before: [3], after: [0])), [[3]]),
    (.pad(Op.Pad(.replicate, before: [1], after: [0])), [[0]]),
    (.expand(Op.Expand(to: [2, 4])), [[3, 4]]),
    (.expand(Op.Expand(to: [-1, 4])), [[4]]),
    (.triangle(Op.Triangle(diagonal: 0, isLower: true)), [[4]]),
    (.matMul(Op.MatMul()), [[3, 4], [3, 4]]),
    (.matMul(Op.MatMul()), [[2, 3, 4], [3, 4, 5]]),
    (.matMul(Op.MatMul(transposesA: true)), [[3, 4], [4, 5]]),
    (.layerNorm(Op.LayerNorm(axisCount: 2, epsilon: 0)), [[3, 4], [4]]),
    (.layerNorm(Op.LayerNorm(axisCount: 3, epsilon: 0)), [[3, 4]]),
    (.gather(Op.Gather(axis: 0, indices: IndexTensor([0, 1], shape: [2, 1]))), [[3, 4]]),
    (.take(Op.Take(axis: 1, indices: IndexTensor([0]))), [[3]]),
    (.scatterAdd(Op.ScatterAdd(axis: 0, indices: IndexTensor([0, 1]))), [[3], [3]]),
]

@Suite struct OpShapeTests {
    @Test(arguments: mistakes.indices) func mistakesNameTheShapes(_ index: Int) {
        let (op, shapes) = mistakes[index]
        let error = #expect(throws: ShapeError.self) { try op.operation.outputShape(shapes) }
        // The first shape, or a list that holds it.
        let text = error?.description ?? ""
        #expect(text.contains(shapes[0].description), "\(text)")
    }

    @Test func indicesBeyondTheEndTrap() async {
        await #expect(processExitsWith: .failure) {
            _ = Tape(mode: .evaluation).input(.zeros([3, 2])).embedding(IndexTensor([3]))
        }
        await #expect(processExitsWith: .failure) {
            _ = Tape(mode: .evaluation).input(.zeros([3, 2])).taken(axis: 0, IndexTensor([-1]))
        }
        await #expect(processExitsWith: .failure) {
            _ = Tape(mode: .evaluation).input(.zeros([3, 2]))
                .gathered(axis: 0, IndexTensor([3, 0], shape: [1, 2]))
        }
    }

    /// Whatever numbers stand in a file: an op or an error, and a shape or an error, but no trap.
    @Test func attributesOfFilesNeverTrap() {
        let shapes: [Shape] = [
            [], [0], [3], [2, 3], [2, 0, 3], [1, 1, 1, 1, 1, 1, 1, 2], [1 << 24, 2],
        ]
        var accepted: [UInt16: Int] = [:]
        for sample in samples {
            let number = sample.entry.number
            for seed in 0..<2_000 {
                let draw = RandomStream(seed: UInt64(number) << 32 + UInt64(seed))
                    .integers(8, below: 5_040)
                let attributes = changed(sample.attributes, draw)
                guard let op = try? Op(number: number, attributes: attributes) else { continue }
                accepted[number, default: 0] += 1
                #expect(op.attributes == attributes && op.entry.number == number)
                for count in op.entry.operands.prefix(3) {
                    for first in shapes.indices {
                        let operands = (0..<count).map {
                            shapes[(first + $0 * seed) % shapes.count]
                        }
                        _ = try? op.operation.outputShape(operands)
                    }
                }
            }
        }
        // All of them were there, and not as they were alone.
        #expect(Set(accepted.keys) == Set(16...29))
        for (number, count) in accepted { #expect(count > 50, "op \(number): \(count)") }
    }

    /// Attributes with up to two numbers changed, added or taken away.
    private func changed(_ attributes: [Opset.Attribute], _ draw: [Int]) -> [Opset.Attribute] {
        let interesting: [Int64] = [
            0, 1, -1, 2, 3, 7, -8, -9, 24, 255, 1 << 24, -(1 << 24), Int64(Int32.max),
            Int64(Int32.min), .max, .min,
        ]
        let floats: [Float] = [0, 1, -.infinity, .infinity, .nan, 1e30]
        guard !attributes.isEmpty else { return [] }
        var result = attributes
        for turn in 0..<draw[0] % 3 {
            let (what, value) = (draw[3 * turn + 1], draw[3 * turn + 2])
            let at = draw[3 * turn + 3] % result.count
            switch result[at].value {
            case .integers(var values):
                let new = interesting[value % interesting.count]
                if what % 5 == 0 || values.isEmpty {
                    values.append(new)
                } else if what % 5 == 1 {
                    values.removeLast()
                } else {
                    values[what % values.count] = new
                }
                result[at] = Opset.Attribute(tag: result[at].tag, value: .integers(values))
            case .floats(var values):
                let new = floats[value % floats.count]
                if values.isEmpty { values.append(new) } else { values[0] = new }
                result[at] = Opset.Attribute(tag: result[at].tag, value: .floats(values))
            }
        }
        return result
    }
}

/// Each op that may stand in a file, from number 16 on.
private let samples: [Op] = [
    .unary(Op.Unary(.clamp(-1, 1))), .binary(Op.Binary(.divide)), .select(Op.Select()),
    .fill(Op.Fill(value: 1)), .reduce(Op.Reduce(.variance, axes: [0, 1], correction: 1)),
    .cumulativeSum(Op.CumulativeSum(axis: 1)), .permute(Op.Permute([1, 0])),
    .slice(Op.Slice([.init(axis: 0, start: 1, step: 2), .init(axis: 1, step: -1)])),
    .concatenate(Op.Concatenate(axis: 0)),
    .pad(Op.Pad(.constant(1), before: [1, -2], after: [0, 2])), .expand(Op.Expand(to: [-1, 3])),
    .triangle(Op.Triangle(diagonal: 1, isLower: false)), .matMul(Op.MatMul(transposesB: true)),
    .layerNorm(Op.LayerNorm(axisCount: 2, epsilon: 1e-5)),
]
