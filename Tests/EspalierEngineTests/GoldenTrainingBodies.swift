import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation

/// Golden cases about training: optimizers, schedules, masks, whole networks.
let goldenTrainingBodies: [String: GoldenRunner.Body] = [
    "sgd": { test in try trajectory(test, optimizer: sgd, slots: ["momentum_buffer": "momentum"]) },
    "adamw": { test in
        try trajectory(test, optimizer: adamW, slots: ["exp_avg": "first", "exp_avg_sq": "second"])
    },
    "adam": { test in
        try trajectory(
            test, optimizer: adam,
            slots: ["exp_avg": "first", "exp_avg_sq": "second", "max_exp_avg_sq": "largest"])
    },
    "adagrad": { test in try trajectory(test, optimizer: adaGrad, slots: ["sum": "sum"]) },
    "rmsprop": { test in
        try trajectory(
            test, optimizer: rmsProp,
            slots: ["square_avg": "square", "grad_avg": "mean", "momentum_buffer": "momentum"])
    },
    "masked_adamw": { test in
        try trajectory(test, optimizer: adamW, slots: ["exp_avg": "first", "exp_avg_sq": "second"])
    },
    "clip_grad_norm": { test in
        let limit = Float(test.number("max_norm", default: 1))
        if test.string("norm_type") == "inf" { return try clip(test, .largest(limit), limit) }
        let degree = Float(test.number("norm_type", default: 2))
        return try clip(
            test, degree == 2 ? .norm(limit) : .powerNorm(limit, degree: degree), limit)
    },
    "clip_grad_value": { test in
        try clip(test, .value(Float(test.number("clip", default: 1))), 0)
    },
    "schedule": schedule,
    "magnitude_mask": { test in
        let scope: MaskSelection.Scope = test.string("scope") == "global" ? .global : .layer
        return try masks(
            test, MaskSelection(pattern: .unstructured, scope: scope))
    },
    "block_mask": { test in
        let block = test.ints("block") ?? [1, 1]
        return try masks(
            test, MaskSelection(pattern: .block(outputs: block[0], inputs: block[1])))
    },
    "cubic_sparsity": { test in
        let rule = CubicSparsity(
            initial: test.number("initial", default: 0), final: test.number("final", default: 0),
            begin: test.int("begin", default: 0), end: test.int("end", default: 0),
            every: test.int("every", default: 1))
        let steps = try test.integers("input.step")
        let values = steps.elements.map { Float(rule.sparsity(at: Int($0))) }
        return ["expected.sparsity": .tensor(Tensor(values, shape: steps.shape))]
    },
    "cnn_bn": smallConvNet,
    "bn_fold": normFolding,
]

private func shape(_ test: GoldenCase) throws -> Schedule.Shape {
    func number(_ key: String) -> Double { test.number(key, default: 1) }
    switch test.string("kind") {
    case "constant_warmup": return .constant
    case "cosine_warmup": return .cosine
    case "linear_warmup": return .linear
    case "cosine_annealing": return .cosineAnnealing(end: number("lr_min") / number("lr"))
    case "cosine_restarts_warmup": return .cosineRestarts(cycles: test.int("cycles", default: 1))
    case "polynomial": return .polynomial(power: number("power"))
    case "polynomial_warmup":
        return .polynomial(power: number("power"), end: number("lr_end") / number("lr"))
    case "exponential": return .exponential(factor: number("gamma"))
    case "step":
        return .step(every: test.int("step_size", default: 1), factor: number("gamma"))
    case "multistep":
        return .milestones(test.ints("milestones") ?? [], factor: number("gamma"))
    case "one_cycle":
        return .oneCycle(
            Schedule.OneCycle(
                rise: number("pct"), isLinear: test.string("anneal") == "linear",
                divisor: number("div"), finalDivisor: number("final_div"),
                isSymmetric: test.bool("three_phase", default: false),
                lowMomentum: number("base_momentum"), highMomentum: number("max_momentum")))
    default: throw NotCovered()
    }
}

@Sendable private func schedule(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let schedule = Schedule(
        try shape(test), warmup: test.int("warmup", default: 0),
        total: test.int("total", default: test.int("t_max", default: 1)))
    func check(_ name: String, _ value: (Int) -> Double?) throws {
        for (step, expected) in try test.doubles(name).enumerated() {
            let got = value(step) ?? .nan
            guard abs(got - expected) <= 1e-12 + 1e-7 * abs(expected) else {
                throw GoldenError("\(name) at step \(step): \(got), expected \(expected)")
            }
        }
    }
    try check("expected.lr") { test.number("lr", default: 1) * schedule.factor(at: $0) }
    var results: [String: GoldenResult] = ["expected.lr": .covered]
    if test.has("expected.momentum_value") {
        try check("expected.momentum_value") { schedule.momentum(at: $0) }
        results["expected.momentum_value"] = .covered
    }
    return results
}

private func parameterNames(_ test: GoldenCase) -> [String] {
    test.object("params").keys.sorted()
}

private func number(_ object: [String: Any], _ key: String, _ value: Float) -> Float {
    (object[key] as? NSNumber)?.floatValue ?? value
}

private func options(_ test: GoldenCase) -> [String: ParameterOptions] {
    let base = number(test.object("hyper"), "lr", 1)
    return test.object("groups").compactMapValues { group in
        guard let group = group as? [String: Any] else { return nil }
        return ParameterOptions(
            rateFactor: number(group, "lr", base) / base,
            weightDecay: (group["weight_decay"] as? NSNumber)?.floatValue)
    }
}

private func sgd(_ test: GoldenCase) -> any Optimizer {
    let hyper = test.object("hyper")
    return SGD(
        momentum: number(hyper, "momentum", 0), dampening: number(hyper, "dampening", 0),
        weightDecay: number(hyper, "weight_decay", 0),
        nesterov: (hyper["nesterov"] as? NSNumber)?.boolValue ?? false, options: options(test))
}

private func adamW(_ test: GoldenCase) -> any Optimizer {
    let hyper = test.object("hyper")
    let betas = (hyper["betas"] as? [NSNumber])?.map(\.floatValue) ?? [0.9, 0.999]
    return AdamW(
        beta1: betas[0], beta2: betas[1], epsilon: number(hyper, "eps", 1e-8),
        weightDecay: number(hyper, "weight_decay", 0.01), options: options(test))
}

private func adam(_ test: GoldenCase) -> any Optimizer {
    let hyper = test.object("hyper")
    let betas = (hyper["betas"] as? [NSNumber])?.map(\.floatValue) ?? [0.9, 0.999]
    return Adam(
        beta1: betas[0], beta2: betas[1], epsilon: number(hyper, "eps", 1e-8),
        weightDecay: number(hyper, "weight_decay", 0),
        keepsLargest: (hyper["amsgrad"] as? NSNumber)?.boolValue ?? false, options: options(test))
}

private func adaGrad(_ test: GoldenCase) -> any Optimizer {
    let hyper = test.object("hyper")
    return AdaGrad(
        rateDecay: number(hyper, "lr_decay", 0), weightDecay: number(hyper, "weight_decay", 0),
        initialSum: number(hyper, "initial_accumulator_value", 0),
        epsilon: number(hyper, "eps", 1e-10), options: options(test))
}

private func rmsProp(_ test: GoldenCase) -> any Optimizer {
    let hyper = test.object("hyper")
    return RMSProp(
        smoothing: number(hyper, "alpha", 0.99), epsilon: number(hyper, "eps", 1e-8),
        weightDecay: number(hyper, "weight_decay", 0), momentum: number(hyper, "momentum", 0),
        isCentred: (hyper["centered"] as? NSNumber)?.boolValue ?? false, options: options(test))
}

/// Twenty steps along given gradients.
private func trajectory(
    _ test: GoldenCase, optimizer make: (GoldenCase) -> any Optimizer, slots: [String: String]
) throws -> [String: GoldenResult] {
    let names = parameterNames(test)
    let set = ParameterSet(
        try names.map { ($0, Parameter(try test.tensor("param.\($0)"))) })
    var optimizer = make(test)
    func setMasks(_ prefix: String) throws {
        for entry in set.entries where test.has("\(prefix).\(entry.name)") {
            let bits = try test.tensor("\(prefix).\(entry.name)").elements
            entry.parameter.setMask(Mask(shape: entry.parameter.shape) { bits[$0] != 0 })
        }
    }
    try setMasks("input.mask")
    let steps = test.int("steps", default: 20)
    let rates = test.numbers("lrs")
    let base = Double(number(test.object("hyper"), "lr", 1))
    var history = Dictionary(
        uniqueKeysWithValues: set.entries.map { ($0.name, [$0.parameter.value]) })
    for step in 0..<steps {
        if step == test.int("remask_at", default: -1) { try setMasks("input.mask2") }
        var gradients = Gradients()
        for entry in set.entries {
            let all = try test.tensor("input.grad.\(entry.name)")
            let size = entry.parameter.value.count
            gradients[entry.parameter] = Tensor(
                Array(all.elements[step * size..<(step + 1) * size]), shape: entry.parameter.shape)
        }
        optimizer.update(set, with: gradients, rate: Float(rates?[step] ?? base))
        for entry in set.entries { history[entry.name, default: []].append(entry.parameter.value) }
    }
    var results: [String: GoldenResult] = [:]
    for entry in set.entries {
        let states = history[entry.name] ?? []
        results["expected.\(entry.name)"] = .tensor(
            Tensor(
                states.flatMap(\.elements),
                shape: Shape([states.count] + Array(entry.parameter.shape))))
        for (theirs, ours) in slots {
            if let state = optimizer.state.slots[ours]?[entry.name] {
                results["expected.state.\(entry.name).\(theirs)"] = .tensor(state)
            }
        }
    }
    return results
}

private func clip(_ test: GoldenCase, _ clipping: GradientClipping, _ limit: Float) throws
    -> [String: GoldenResult]
{
    let names = parameterNames(test)
    var gradients = Gradients()
    let set = ParameterSet(
        try names.map {
            ($0, Parameter(Tensor.zeros(try test.tensor("input.grad.\($0)").shape)))
        })
    for entry in set.entries {
        gradients[entry.parameter] = try test.tensor("input.grad.\(entry.name)")
    }
    let norm = clipping.apply(to: &gradients, of: set)
    var results: [String: GoldenResult] = [
        "expected.total_norm": .tensor(Tensor(norm)),
        "expected.coefficient": .tensor(Tensor(min(1, limit / (norm + 1e-6)))),
    ]
    for entry in set.entries {
        results["expected.\(entry.name)"] = gradients[entry.parameter].map { .tensor($0) }
    }
    return results
}

private func masks(_ test: GoldenCase, _ selection: MaskSelection) throws
    -> [String: GoldenResult]
{
    // Ranked in the order of the file's attribute, which is alphabetical.
    let names = parameterNames(test)
    let weights = try names.map { try test.tensor("param.\($0)") }
    let chosen = selection.masks(
        for: weights.map { MaskSelection.Candidate($0) },
        sparsity: test.number("sparsity", default: 0))
    var results: [String: GoldenResult] = [:]
    for (name, mask) in zip(names, chosen) {
        let bits = (0..<mask.shape.elementCount).map { mask.isLive($0) ? Float(1) : 0 }
        results["expected.mask.\(name)"] = .tensor(Tensor(bits, shape: mask.shape))
        results["expected.block_mask.\(name)"] = .covered
    }
    return results
}

/// conv - norm - ReLU - pool - conv (groups, stride) - norm - ReLU - global mean - linear, trained by SGD.
@Sendable private func smallConvNet(_ test: GoldenCase) throws -> [String: GoldenResult] {
    func parameter(_ name: String) throws -> Parameter {
        let tensor = try test.tensor("param.\(name)")
        return Parameter(tensor.shape.rank == 4 ? tensor.permuted([0, 2, 3, 1]) : tensor)
    }
    let names = test.names.filter { $0.hasPrefix("param.") }.map { String($0.dropFirst(6)) }
    let set = ParameterSet(try names.map { ($0, try parameter($0)) })
    let norms = ["bn1", "bn2"].map { name in
        BatchNorm(channels: set["\(name).weight"]?.value.count ?? 0)
    }
    let groups = (test.object("config")["groups"] as? NSNumber)?.intValue ?? 1
    func forward(_ x: Value) throws -> Value {
        func value(_ name: String) throws -> Value {
            guard let parameter = set[name] else { throw GoldenError("no parameter \(name)") }
            return x.tape.parameter(parameter)
        }
        func norm(_ x: Value, _ index: Int) throws -> Value {
            let running = norms[index].running
            return x.batchNorm(
                weight: try value("bn\(index + 1).weight"), bias: try value("bn\(index + 1).bias"),
                running: Op.BatchNorm.Moments(
                    mean: running.mean.value, variance: running.variance.value),
                epsilon: 1e-5, owner: running)
        }
        let same = Padding2D(Size2D(1))
        var y = x.conv2D(weight: try value("conv1.weight"), bias: nil, Op.Conv2D(padding: same))
        y = try norm(y, 0).relu()
        y = y.maxPool2D(Window2D(kernel: Size2D(2), stride: Size2D(2)))
        y = y.conv2D(
            weight: try value("conv2.weight"), bias: try value("conv2.bias"),
            Op.Conv2D(stride: Size2D(2), padding: same, groups: groups))
        y = try norm(y, 1).relu()
        y = y.averagePool2D(Window2D(kernel: Size2D(y.shape[1], y.shape[2]))).flattened()
        return y.linear(weight: try value("fc.weight"), bias: try value("fc.bias"))
    }
    func theirs(_ tensor: Tensor) -> Tensor {
        tensor.shape.rank == 4 ? tensor.permuted([0, 3, 1, 2]) : tensor
    }
    let train = test.object("train")
    var optimizer = SGD(
        momentum: number(train, "momentum", 0), weightDecay: number(train, "weight_decay", 0))
    let images = try test.tensor("input.x").permuted([0, 2, 3, 1])
    let labels = try test.integers("input.labels")
    var results: [String: GoldenResult] = [:]
    var losses: [Float] = []
    for step in 0..<Int(number(train, "steps", 5)) {
        let tape = Tape(mode: .training)
        let logits = try forward(tape.input(images))
        let loss = logits.crossEntropy(labels)
        losses.append(loss.tensor.scalar)
        RunningMoments.fold(tape.batchStatistics)
        if step == 0 {
            results["output.logits"] = .tensor(logits.tensor)
            results["output.loss"] = .tensor(loss.tensor)
        }
        let gradients = tape.gradients(of: loss)
        if step == 0 {
            for entry in set.entries {
                results["grad.\(entry.name)"] = gradients[entry.parameter].map {
                    .tensor(theirs($0))
                }
            }
        }
        optimizer.update(set, with: gradients, rate: number(train, "lr", 0.1))
    }
    let logits = try forward(Tape(mode: .evaluation, isRecording: false).input(images))
    results["expected.eval_logits_after"] = .tensor(logits.tensor)
    results["expected.losses"] = .tensor(Tensor(losses, shape: [losses.count]))
    for entry in set.entries {
        results["expected.after.\(entry.name)"] = .tensor(theirs(entry.parameter.value))
    }
    for (index, norm) in norms.enumerated() {
        results["expected.after.bn\(index + 1).running_mean"] = .tensor(norm.running.mean.value)
        results["expected.after.bn\(index + 1).running_var"] = .tensor(norm.running.variance.value)
    }
    return results
}

/// A norm folded into the layer before it: its weights, and the same outputs from the folded layer.
@Sendable private func normFolding(_ test: GoldenCase) throws -> [String: GoldenResult] {
    let norm = BatchNorm(
        channels: try test.tensor("param.bn_weight").count,
        epsilon: Float(test.number("eps", default: 1e-5)))
    norm.weight.assign(try test.tensor("param.bn_weight"))
    norm.bias.assign(try test.tensor("param.bn_bias"))
    norm.running.mean.value = try test.tensor("param.running_mean")
    norm.running.variance.value = try test.tensor("param.running_var")
    let isConvolution = test.string("kind") == "conv"
    func ours(_ tensor: Tensor) -> Tensor {
        isConvolution ? tensor.permuted([0, 2, 3, 1]) : tensor
    }
    func theirs(_ tensor: Tensor) -> Tensor {
        isConvolution ? tensor.permuted([0, 3, 1, 2]) : tensor
    }
    let bias = test.has("param.bias") ? try test.tensor("param.bias") : nil
    let folded = norm.folded(into: ours(try test.tensor("param.weight")), bias: bias)
    let tape = Tape(mode: .evaluation, isRecording: false)
    let x = tape.input(ours(try test.tensor("input.x")))
    let (weight, shift) = (tape.input(folded.weight), tape.input(folded.bias))
    let stride = test.pair("stride", default: 1)
    let padding = test.pair("padding", default: 0)
    let y =
        isConvolution
        ? x.conv2D(
            weight: weight, bias: shift,
            Op.Conv2D(
                stride: Size2D(stride.height, stride.width),
                padding: Padding2D(Size2D(padding.height, padding.width)),
                groups: test.int("groups", default: 1)))
        : x.linear(weight: weight, bias: shift)
    return [
        "expected.folded_weight": .tensor(theirs(folded.weight)),
        "expected.folded_bias": .tensor(folded.bias), "output.y": .tensor(theirs(y.tensor)),
    ]
}
