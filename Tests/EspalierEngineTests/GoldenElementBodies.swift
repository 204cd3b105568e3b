import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors
import EspalierTesting

/// Golden cases of functions of elements, and of reductions.
let goldenElementBodies: [String: GoldenRunner.Body] =
    functionBodies.merging(reductionBodies) { first, _ in first }

private func unary(
    _ function: @escaping @Sendable (GoldenCase) -> Op.Unary.Function
) -> GoldenRunner.Body {
    { test in try operands(test, "input.x") { $0[0].applying(function(test)) } }
}

private func binary(_ function: Op.Binary.Function) -> GoldenRunner.Body {
    { test in try operands(test, "input.a", "input.b") { .combining(function, $0[0], $0[1]) } }
}

private func float(_ test: GoldenCase, _ key: String, _ value: Double) -> Float {
    Float(test.number(key, default: value))
}

private let functionBodies: [String: GoldenRunner.Body] = [
    "abs": unary { _ in .abs },
    "neg": unary { _ in .negate },
    "exp": unary { _ in .exp },
    "expm1": unary { _ in .expm1 },
    "log": unary { _ in .log },
    "log1p": unary { _ in .log1p },
    "sqrt": unary { _ in .sqrt },
    "rsqrt": unary { _ in .rsqrt },
    "reciprocal": unary { _ in .reciprocal },
    "square": unary { _ in .square },
    "sin": unary { _ in .sin },
    "tanh": unary { _ in .tanh },
    "sigmoid": unary { _ in .sigmoid },
    "erf": unary { _ in .erf },
    "gelu_erf": unary { _ in .gelu },
    "gelu_tanh": unary { _ in .geluTanh },
    "silu": unary { _ in .silu },
    "hardswish": unary { _ in .hardSwish },
    "softplus": unary { .softplus(beta: float($0, "beta", 1)) },
    "elu": unary { .elu(alpha: float($0, "alpha", 1)) },
    "leaky_relu": unary { .leakyReLU(slope: float($0, "slope", 0.01)) },
    "pow_scalar": unary { .power(float($0, "exponent", 1)) },
    "relu6": unary { _ in .clamp(0, 6) },
    "clamp": { test in
        let (low, high) = (
            float(test, "min", -Double.infinity), float(test, "max", Double.infinity)
        )
        var results = try operands(test, "input.x") { $0[0].clamped(low: low, high: high) }
        // What is not moved is inside, bounds included.
        let x = try test.tensor("input.x")
        let y = Tape(mode: .evaluation).input(x).clamped(low: low, high: high).tensor
        results["expected.inside"] = .tensor(
            Tensor(zip(x.elements, y.elements).map { $0 == $1 ? 1 : 0 }, shape: x.shape))
        return results
    },
    "sub": binary(.subtract),
    "mul": binary(.multiply),
    "div": binary(.divide),
    "pow": binary(.power),
    "maximum": binary(.maximum),
    "minimum": binary(.minimum),
    "where": { test in
        let condition = try test.tensor("input.cond")
        return try operands(test, "input.a", "input.b") {
            .select($0[0].tape.input(condition), $0[0], $0[1])
        }
    },
    "cast_half": { test in
        let x = try test.tensor("input.x")
        let halves = Kernels.halves(x, .float16)
        let brains = Kernels.halves(x, .bfloat16)
        let back = Kernels.floats(halves, .float16, shape: x.shape)
        return [
            "expected.f16_bits": .tensor(Tensor(halves.map(Float.init), shape: x.shape)),
            "expected.bf16_bits": .tensor(Tensor(brains.map(Float.init), shape: x.shape)),
            "expected.f16": .tensor(back), "expected.from_f16": .tensor(back),
            "expected.from_bf16": .tensor(
                Kernels.floats(brains, .bfloat16, shape: x.shape)),
        ]
    },
]

// MARK: - Reductions

private func reduction(_ kind: Op.Reduce.Kind) -> GoldenRunner.Body {
    { test in
        try operands(test, "input.x") {
            $0[0].reduced(
                kind, axes: test.ints("dim"), keepsAxes: test.bool("keepdim", default: false),
                correction: float(test, "correction", 0))
        }
    }
}

/// Indices as a tensor, with the axis left in where the case wants it.
private func indices(_ test: GoldenCase, _ x: Tensor, largest: Bool) -> GoldenResult {
    guard let axis = test.ints("dim")?[0] else {
        let flat = Kernels.extremes(x.reshaped(to: [x.count]), axis: 0, largest: largest)
        return .tensor(Tensor(flat.elements.map(Float.init), shape: []))
    }
    let found = Kernels.extremes(x, axis: axis, largest: largest)
    var shape = x.shape
    shape[shape.normalized(axis: axis)] = 1
    return .tensor(
        Tensor(
            found.elements.map(Float.init),
            shape: test.bool("keepdim", default: false) ? shape : found.shape))
}

private func extreme(_ kind: Op.Reduce.Kind) -> GoldenRunner.Body {
    { test in
        var results = try reduction(kind)(test)
        results["expected.indices"] = indices(
            test, try test.tensor("input.x"), largest: kind == .firstLargest)
        return results
    }
}

private let reductionBodies: [String: GoldenRunner.Body] = [
    "sum": reduction(.sum),
    "mean": reduction(.mean),
    "var": reduction(.variance),
    "std": reduction(.deviation),
    "amax": reduction(.largest),
    "amin": reduction(.smallest),
    "logsumexp": reduction(.logSumExp),
    "norm2": reduction(.norm),
    "max_dim": extreme(.firstLargest),
    "min_dim": extreme(.firstSmallest),
    "argmax": { test in
        let x = try test.tensor("input.x")
        return [
            "expected.argmax": indices(test, x, largest: true),
            "expected.argmin": indices(test, x, largest: false),
        ]
    },
    "cumsum": { test in
        try operands(test, "input.x") { $0[0].cumulativeSum(axis: test.ints("dim")?[0] ?? 0) }
    },
    "topk": { test in
        let count = test.int("k", default: 1)
        var results = try operands(test, "input.x", result: "values") {
            $0[0].largest(count: count).values
        }
        let found = Kernels.largestIndices(try test.tensor("input.x"), count: count)
        results["expected.indices"] = .tensor(
            Tensor(found.elements.map(Float.init), shape: found.shape))
        return results
    },
    "layer_norm": { test in
        try operands(test, "input.x", "param.weight", "param.bias") {
            $0[0].layerNorm(
                weight: $0.count > 1 ? $0[1] : nil, bias: $0.count > 2 ? $0[2] : nil,
                axisCount: test.int("ndims", default: 1), epsilon: float(test, "eps", 1e-5))
        }
    },
    "rms_norm": { test in
        try operands(test, "input.x", "param.weight") {
            $0[0].rmsNorm(
                weight: $0.count > 1 ? $0[1] : nil, axisCount: test.int("ndims", default: 1),
                epsilon: float(test, "eps", 1e-5))
        }
    },
    "group_norm": { test in
        // Channels are axis 1; ours are the last.
        let rank = try test.tensor("input.x").shape.rank
        return try operands(test, "input.x", "param.weight", "param.bias") {
            $0[0].permuted([0] + Array(2..<rank) + [1])
                .groupNorm(
                    groups: test.int("groups", default: 1), weight: $0.count > 1 ? $0[1] : nil,
                    bias: $0.count > 2 ? $0[2] : nil, epsilon: float(test, "eps", 1e-5)
                )
                .permuted([0, rank - 1] + Array(1..<rank - 1))
        }
    },
]
