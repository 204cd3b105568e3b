import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Golden cases of resampling, of other convolutions, and of attention.
let goldenLayerBodies: [String: GoldenRunner.Body] = [
    "adaptive_avg_pool2d": { test in
        let size = test.pair("output_size", default: 1)
        return try images(test, "input.x") {
            $0[0].adaptiveAveragePool2D(height: size.height, width: size.width)
        }
    },
    "upsample": { test in
        let shape = try test.tensor("input.x").shape
        let factor = test.int("scale_factor", default: 1)
        let size =
            test.ints("size").map { Size2D($0[0], $0[1]) }
            ?? Size2D(shape[2] * factor, shape[3] * factor)
        return try images(test, "input.x") {
            test.string("mode") == "nearest"
                ? $0[0].resizedToNearest(height: size.height, width: size.width)
                : $0[0].resizedBilinearly(
                    height: size.height, width: size.width,
                    alignsCorners: test.bool("align_corners", default: false))
        }
    },
    "conv1d": { test in
        func first(_ key: String, _ value: Int) -> Int { test.ints(key)?[0] ?? value }
        return try operands(test, "input.x", "param.weight", "param.bias") {
            $0[0].transposed(1, 2).conv1D(
                weight: $0[1].transposed(1, 2), bias: $0.count > 2 ? $0[2] : nil,
                stride: first("stride", 1), padding: first("padding", 0),
                dilation: first("dilation", 1), groups: test.int("groups", default: 1)
            ).transposed(1, 2)
        }
    },
    "conv_transpose2d": { test in
        let added = test.pair("output_padding", default: 0)
        return try images(test, "input.x", "param.weight", "param.bias") {
            $0[0].convTransposed2D(
                weight: $0[1], bias: $0.count > 2 ? $0[2] : nil,
                Op.Conv2D(
                    stride: size(test, "stride", 1), padding: Padding2D(size(test, "padding", 0)),
                    dilation: size(test, "dilation", 1), groups: test.int("groups", default: 1)),
                outputPadding: Size2D(added.height, added.width))
        }
    },
    "im2col": { test in
        try operands(test, "input.x") {
            let columns = $0[0].permuted([0, 2, 3, 1]).columns(window(test))
            let shape = columns.shape
            return columns.permuted([0, 3, 2, 1])
                .reshaped(to: [shape[0], shape[3] * shape[2], shape[1]])
        }
    },
    "col2im": { test in
        let window = window(test)
        let taps = window.kernel.height * window.kernel.width
        return try operands(test, "input.x") {
            let shape = $0[0].shape
            return $0[0].reshaped(to: [shape[0], shape[1] / taps, taps, shape[2]])
                .permuted([0, 3, 2, 1])
                .foldedColumns(window, to: size(test, "output_size", 1))
                .permuted([0, 3, 1, 2])
        }
    },
    "sdpa": { test in
        let (mask, shape) = (
            try keyMask(test), try test.tensor("input.q").shape
        )
        let scale = test.number("scale", default: 0)
        let spread = mask.map { $0.reshaped(to: [shape[0], 1, 1, $0.shape[1]]) }
        let probabilities = Kept()
        var results = try operands(test, "input.q", "input.k", "input.v") {
            let (y, p) = $0[0].attention(
                keys: $0[1], values: $0[2], keyMask: spread,
                isCausal: test.bool("causal", default: false),
                scale: scale == 0 ? nil : Float(scale))
            probabilities.tensor = p.tensor
            return y
        }
        let heads = shape.rank == 4 ? shape[1] : 1
        func joined(_ x: Value) -> Value { x.shape.rank == 4 ? x.joinedHeads() : x }
        let fused = try operands(test, "input.q", "input.k", "input.v") {
            let y = joined($0[0]).attention(
                keys: joined($0[1]), values: joined($0[2]), heads: heads, keyMask: mask,
                isCausal: test.bool("causal", default: false),
                scale: scale == 0 ? nil : Float(scale))
            return shape.rank == 4 ? y.splitHeads(heads) : y
        }
        expectClose(fused, results, test.name)
        results["expected.probs"] = probabilities.tensor.map { .tensor($0) }
        return results
    },
    "mha": multiHeadAttention,
]

/// The fused form gives what the composed one gives, which is then held against the golden numbers.
private func expectClose(
    _ fused: [String: GoldenResult], _ composed: [String: GoldenResult], _ name: String
) {
    #expect(Set(fused.keys) == Set(composed.keys))
    for (key, result) in fused {
        guard case .tensor(let a) = result, case .tensor(let b)? = composed[key] else { continue }
        #expect(a.shape == b.shape, "\(name) \(key)")
        let worst = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
        #expect(worst < 1e-5, "\(name) \(key)")
    }
}

private final class Kept {
    var tensor: Tensor?
}

private func keyMask(_ test: GoldenCase) throws -> Tensor? {
    test.has("input.key_mask") ? try test.tensor("input.key_mask") : nil
}

private func size(_ test: GoldenCase, _ key: String, _ value: Int) -> Size2D {
    let pair = test.pair(key, default: value)
    return Size2D(pair.height, pair.width)
}

private func window(_ test: GoldenCase) -> Window2D {
    Window2D(
        kernel: size(test, "kernel", 1), stride: size(test, "stride", 1),
        padding: Padding2D(size(test, "padding", 0)), dilation: size(test, "dilation", 1))
}

@Sendable private func multiHeadAttention(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let x = try test.tensor("input.x")
    let size = x.shape[2]
    let hasMemory = test.has("input.memory")
    let memory = hasMemory ? try test.tensor("input.memory") : x
    let layer = MultiHeadAttention(
        size: size, heads: test.int("H", default: 1), memorySize: memory.shape[2],
        bias: test.has("param.q.bias"), random: RandomStream(seed: 1))
    let set = ParameterSet(layer)
    // Their q, k, v and o are the first letters of ours.
    func theirs(_ name: String) -> String {
        let parts = name.split(separator: ".")
        return "\(parts[0].prefix(1)).\(parts[1])"
    }
    for entry in set.entries {
        entry.parameter.assign(try test.tensor("param.\(theirs(entry.name))"))
    }
    let (mask, isCausal) = (try keyMask(test), test.bool("causal", default: false))
    let upstream = try test.tensor("upstream.y")
    var probabilities: Tensor?
    func results(_ body: (Value, Value?) -> Value) -> [String: GoldenResult] {
        let tape = Tape(mode: .training)
        let inputs = [tape.variable(x)] + (hasMemory ? [tape.variable(memory)] : [])
        let y = body(inputs[0], hasMemory ? inputs[1] : nil)
        let output = y.tensor
        let found = tape.gradients(of: y, upstream: upstream, for: inputs)
        var results: [String: GoldenResult] = [
            "output.y": .tensor(output), "grad.x": .tensor(found.values[0]),
        ]
        if hasMemory { results["grad.memory"] = .tensor(found.values[1]) }
        for entry in set.entries {
            results["grad.\(theirs(entry.name))"] = found.parameters[entry.parameter].map {
                .tensor($0)
            }
        }
        return results
    }
    var composed = results {
        let (y, p) = layer.attend($0, to: $1, keyMask: mask, isCausal: isCausal)
        probabilities = p.tensor
        return y
    }
    let fused = results { layer($0, to: $1, keyMask: mask, isCausal: isCausal) }
    expectClose(fused, composed, test.name)
    composed["expected.probs"] = probabilities.map { .tensor($0) }
    return composed
}
