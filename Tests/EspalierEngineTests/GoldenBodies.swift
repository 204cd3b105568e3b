import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting

/// How each golden op is computed by the engine.
let goldenBodies: [String: GoldenRunner.Body] = [
    "add": { try operands($0, "input.a", "input.b") { $0[0] + $0[1] } },
    "relu": { try operands($0, "input.x") { $0[0].relu() } },
    "linear": { test in
        try operands(test, "input.x", "param.weight", "param.bias") {
            $0[0].linear(weight: $0[1], bias: $0.count > 2 ? $0[2] : nil)
        }
    },
    "reshape": { test in
        try operands(test, "input.x") { $0[0].reshaped(to: test.ints("shape") ?? []) }
    },
    "conv2d": convolution,
    "max_pool2d": maxPool,
    "avg_pool2d": { test in
        try images(test, "input.x") {
            $0[0].averagePool2D(
                window(test), countsPadding: test.bool("count_include_pad", default: true))
        }
    },
    "batch_norm": batchNorm,
    "softmax": { test in
        let mask = test.has("input.mask") ? try test.tensor("input.mask") : nil
        return try operands(test, "input.x") {
            var x = $0[0]
            if let mask { x = x.filled(with: -.infinity, where: x.tape.input(mask)) }
            return x.softmax(axis: test.ints("dim")?[0] ?? -1)
        }
    },
    "log_softmax": { test in
        try operands(test, "input.x") { $0[0].logSoftmax(axis: test.ints("dim")?[0] ?? -1) }
    },
    "dropout_masked": { test in
        let mask = try test.tensor("input.mask")
        return try operands(test, "input.x") {
            $0[0].dropout(
                Op.Dropout(probability: Float(test.number("p", default: 0.5)), kept: .given(mask)))
        }
    },
    "cross_entropy": crossEntropy,
    "kl_distill": { test in try distillation(test) },
    "kl_distill_tokens": { test in
        try distillation(test, rows: test.tensor("input.mask").elements.map { $0 != 0 })
    },
    "distill_combined": { test in
        let alpha = Float(test.number("alpha", default: 0.5))
        let teacher = try test.tensor("input.teacher")
        let classes = try test.integers("input.target")
        return try operands(test, "input.student", result: "loss") {
            let taught = $0[0].distillation(
                from: teacher, temperature: Float(test.number("T", default: 1)))
            return taught.scaled(by: alpha) + $0[0].crossEntropy(classes).scaled(by: 1 - alpha)
        }
    },
]

// MARK: - Helpers

/// Runs `body` on the operands that the file has and takes the gradients back to what is stored.
func operands(
    _ test: GoldenCase, _ names: String..., result: String = "y", _ body: ([Value]) -> Value
) throws -> [String: GoldenResult] {
    try run(test, names.filter(test.has), result, { $0 }, { $0 }, body)
}

/// The same for a list of operands.
func operands(
    _ test: GoldenCase, all names: [String], result: String = "y", _ body: ([Value]) -> Value
) throws -> [String: GoldenResult] {
    try run(test, names, result, { $0 }, { $0 }, body)
}

/// The same for images: rank 4 is stored as [N, C, H, W], weights as [out, in, kh, kw].
func images(_ test: GoldenCase, _ names: String..., body: ([Value]) -> Value) throws
    -> [String: GoldenResult]
{
    try run(
        test, names.filter(test.has), "y", { $0.shape.rank == 4 ? $0.permuted([0, 2, 3, 1]) : $0 },
        { $0.shape.rank == 4 ? $0.permuted([0, 3, 1, 2]) : $0 }, body)
}

private func run(
    _ test: GoldenCase, _ names: [String], _ result: String, _ toOurs: (Tensor) -> Tensor,
    _ toTheirs: (Tensor) -> Tensor, _ body: ([Value]) -> Value
) throws -> [String: GoldenResult] {
    let tape = Tape(mode: .training)
    let stored = try names.map { try test.operand($0) }
    let values = stored.map { tape.variable(toOurs($0.value)) }
    let output = body(values)
    let upstream = try toOurs(test.tensor("upstream.\(result)"))
    let gradients = tape.gradients(of: output, upstream: upstream, for: values).values
    var results = ["output.\(result)": GoldenResult.tensor(toTheirs(output.tensor))]
    for (index, name) in names.enumerated() {
        let key = "grad." + name.split(separator: ".", maxSplits: 1)[1]
        results[key] = .tensor(stored[index].back(toTheirs(gradients[index])))
    }
    return results
}

private func window(_ test: GoldenCase) -> Window2D {
    let kernel = test.pair("kernel", default: 1)
    let stride = test.pair("stride", default: 0)
    let padding = test.pair("padding", default: 0)
    let dilation = test.pair("dilation", default: 1)
    return Window2D(
        kernel: Size2D(kernel.height, kernel.width),
        stride: stride.height == 0
            ? Size2D(kernel.height, kernel.width) : Size2D(stride.height, stride.width),
        padding: Padding2D(Size2D(padding.height, padding.width)),
        dilation: Size2D(dilation.height, dilation.width),
        roundsUp: test.bool("ceil", default: false))
}

@Sendable private func convolution(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let weight = try test.tensor("param.weight").shape
    let kernel = Size2D(weight[2], weight[3])
    let dilation = test.pair("dilation", default: 1)
    let stride = test.pair("stride", default: 1)
    let spread = Size2D(dilation.height, dilation.width)
    let padding =
        test.string("padding") == "same"
        ? Padding2D.same(kernel: kernel, dilation: spread)
        : Padding2D(
            Size2D(test.pair("padding", default: 0).height, test.pair("padding", default: 0).width))
    let attributes = Op.Conv2D(
        stride: Size2D(stride.height, stride.width), padding: padding, dilation: spread,
        groups: test.int("groups", default: 1))
    return try images(test, "input.x", "param.weight", "param.bias") {
        $0[0].conv2D(weight: $0[1], bias: $0.count > 2 ? $0[2] : nil, attributes)
    }
}

@Sendable private func maxPool(_ test: GoldenCase) throws -> [String: GoldenResult] {
    var results = try images(test, "input.x") { $0[0].maxPool2D(window(test)) }
    let x = try test.operand("input.x").value.permuted([0, 2, 3, 1])
    let indices = MaxPoolProbe.indices(of: x, window(test))
    results["expected.indices"] = .tensor(indices.permuted([0, 3, 1, 2]))
    return results
}

@Sendable private func batchNorm(_ test: GoldenCase) throws -> [String: GoldenResult] {
    // Channels are axis 1; ours are the last.
    let rank = try test.tensor("input.x").shape.rank
    let last = [0] + Array(2..<rank) + [1]
    let back = [0, rank - 1] + Array(1..<rank - 1)
    let layer = BatchNorm(
        channels: try test.tensor("input.running_mean").count,
        epsilon: Float(test.number("eps", default: 1e-5)),
        momentum: Float(test.number("momentum", default: 0.1)))
    layer.running.mean.value = try test.tensor("input.running_mean")
    layer.running.variance.value = try test.tensor("input.running_var")
    let names = ["input.x", "param.weight", "param.bias"].filter(test.has)
    let tape = Tape(mode: test.bool("training", default: true) ? .training : .evaluation)
    let values = try names.map {
        let tensor = try test.tensor($0)
        return tape.variable($0 == "input.x" ? tensor.permuted(last) : tensor)
    }
    let output = values[0].batchNorm(
        weight: values.count > 1 ? values[1] : nil, bias: values.count > 2 ? values[2] : nil,
        running: Op.BatchNorm.Moments(
            mean: layer.running.mean.value, variance: layer.running.variance.value),
        epsilon: layer.epsilon, owner: layer.running)
    RunningMoments.fold(tape.batchStatistics)
    let upstream = try test.tensor("upstream.y").permuted(last)
    let gradients = tape.gradients(of: output, upstream: upstream, for: values).values
    var results: [String: GoldenResult] = [
        "output.y": .tensor(output.tensor.permuted(back)),
        "expected.running_mean": .tensor(layer.running.mean.value),
        "expected.running_var": .tensor(layer.running.variance.value),
        "grad.x": .tensor(gradients[0].permuted(back)),
    ]
    if values.count > 1 { results["grad.weight"] = .tensor(gradients[1]) }
    if values.count > 2 { results["grad.bias"] = .tensor(gradients[2]) }
    return results
}

@Sendable private func crossEntropy(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let logits = try test.tensor("input.x")
    // The class axis is 1; ours is the last.
    let rank = logits.shape.rank
    let last = [0] + Array(2..<rank) + [1]
    let back = [0, rank - 1] + Array(1..<rank - 1)
    let target: Op.CrossEntropy.Target =
        test.bool("soft", default: false)
        ? .probabilities(try test.tensor("input.target"))
        : .classes(try test.integers("input.target"))
    let reductions: [String: Reduction] = ["none": .none, "sum": .sum]
    let attributes = Op.CrossEntropy(
        target: target,
        classWeights: test.has("input.class_weight") ? try test.tensor("input.class_weight") : nil,
        smoothing: Float(test.number("label_smoothing", default: 0)),
        ignoredClass: test.ints("ignore_index").map { Int32($0[0]) },
        reduction: test.string("reduction").flatMap { reductions[$0] } ?? .mean)
    let tape = Tape(mode: .training)
    let x = tape.variable(logits.permuted(last))
    let loss = x.crossEntropy(attributes)
    let gradient = tape.gradients(
        of: loss, upstream: try test.tensor("upstream.loss"), for: [x]
    ).values[0]
    return ["output.loss": .tensor(loss.tensor), "grad.x": .tensor(gradient.permuted(back))]
}

private func distillation(_ test: GoldenCase, rows: [Bool]? = nil) throws
    -> [String: GoldenResult]
{
    let teacher = try test.tensor("input.teacher")
    let temperature = Float(test.number("T", default: 1))
    return try operands(test, "input.student", result: "loss") {
        $0[0].distillation(
            Op.Distillation(teacher: teacher, temperature: temperature, rows: rows))
    }
}
