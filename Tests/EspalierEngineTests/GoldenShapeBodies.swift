import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting

/// Golden cases of what moves elements, and of products of matrices.
let goldenShapeBodies: [String: GoldenRunner.Body] = [
    "permute": { test in
        try operands(test, "input.x") { $0[0].permuted(test.ints("perm") ?? []) }
    },
    "transpose": { test in
        let axes = test.ints("axes") ?? []
        return try operands(test, "input.x") { $0[0].transposed(axes[0], axes[1]) }
    },
    "slice": { test in
        let parts = test.lists("slices").enumerated().map { axis, slice in
            Op.Slice.Part(axis: axis, start: slice[0], end: slice[1], step: slice[2] ?? 1)
        }
        return try operands(test, "input.x") { $0[0].sliced(parts) }
    },
    "flip": { test in
        try operands(test, "input.x") { $0[0].flipped(axes: test.ints("dims") ?? []) }
    },
    "concat": { test in
        try operands(test, all: list(test)) {
            .concatenated($0, axis: test.int("dim", default: 0))
        }
    },
    "stack": { test in
        try operands(test, all: list(test)) { .stacked($0, axis: test.int("dim", default: 0)) }
    },
    "split": split,
    "tile": { test in try operands(test, "input.x") { $0[0].tiled(test.ints("reps") ?? []) } },
    "expand": { test in
        try operands(test, "input.x") { $0[0].expanded(to: test.ints("shape") ?? []) }
    },
    "pad": pad,
    "tril": { test in
        try operands(test, "input.x") {
            $0[0].lowerTriangle(diagonal: test.int("diagonal", default: 0))
        }
    },
    "gather": { test in
        let index = try test.integers("input.index")
        return try operands(test, "input.x") {
            $0[0].gathered(axis: test.int("dim", default: 0), index)
        }
    },
    "index_select": { test in
        let index = try test.integers("input.index")
        return try operands(test, "input.x") {
            $0[0].taken(axis: test.int("dim", default: 0), index)
        }
    },
    "scatter_add": { test in
        let index = try test.integers("input.index")
        return try operands(test, "input.x", "input.src") {
            $0[0].adding($0[1], axis: test.int("dim", default: 0), at: index)
        }
    },
    "embedding": { test in
        let ids = try test.integers("input.ids")
        return try operands(test, "param.weight") {
            $0[0].embedding(ids, frozen: test.ints("padding_idx").map { Int32($0[0]) })
        }
    },
    "matmul": { test in
        try operands(test, "input.a", "input.b") {
            $0[0].matMul(
                $0[1], transposed: test.bool("ta", default: false),
                otherTransposed: test.bool("tb", default: false))
        }
    },
]

/// The operands x0, x1 and so on.
private func list(_ test: GoldenCase) -> [String] {
    Array((0...).lazy.map { "input.x\($0)" }.prefix { test.has($0) })
}

/// Several results: the loss is the sum of what each has with its own gradient.
@Sendable private func split(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let sizes = test.ints("sizes") ?? []
    let tape = Tape(mode: .training)
    let x = tape.variable(try test.tensor("input.x"))
    let parts = x.split(sizes, axis: test.int("dim", default: 0))
    var loss = tape.input(Tensor(0))
    var results: [String: GoldenResult] = [:]
    for (index, part) in parts.enumerated() {
        results["output.y\(index)"] = .tensor(part.tensor)
        loss = loss + (part * tape.input(try test.tensor("upstream.y\(index)"))).sum()
    }
    results["grad.x"] = .tensor(
        tape.gradients(of: loss, upstream: Tensor(1), for: [x]).values[0])
    return results
}

@Sendable private func pad(_ test: GoldenCase) throws -> [String: GoldenResult] {
    // Pairs from the last axis backwards.
    let pairs = test.ints("pad") ?? []
    let rank = try test.tensor("input.x").shape.rank
    var (before, after) = ([Int](repeating: 0, count: rank), [Int](repeating: 0, count: rank))
    for index in 0..<pairs.count / 2 {
        before[rank - 1 - index] = pairs[2 * index]
        after[rank - 1 - index] = pairs[2 * index + 1]
    }
    let mode: Op.Pad.Mode =
        switch test.string("mode") {
        case "reflect": .reflect
        case "replicate": .replicate
        default: .constant(Float(test.number("value", default: 0)))
        }
    return try operands(test, "input.x") { $0[0].padded(mode, before: before, after: after) }
}
