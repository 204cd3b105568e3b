import EspalierNN

extension Recipe.Stage {
    /// Checks all that can be known once the network is there.
    func check(_ network: Network, _ time: StageTime, _ problems: RecipeProblems) {
        let parameters = ParameterSet(network)
        // Patterns may still name norms that were folded.
        let names = parameters.entries.map(\.name) + network.foldedNames.map(\.before)
        frozen.check(against: names + parameters.buffers.map(\.name), "'freeze'", problems)
        for pattern in optimizer.decay.except
        where !names.contains(where: { NamePattern(pattern).matches($0) }) {
            problems.add(
                "'no_decay' \(pattern) matches no parameter; "
                    + suggestion(for: pattern, among: names),
                at: name.position)
        }
        let rise = time.at(warmup)
        if rise >= time.steps {
            problems.add(
                "'warmup' takes \(rise) steps, the stage ends after \(time.steps)",
                at: name.position)
        }
        if let quantization { check(quantization, time, problems) }
        if let pruning { check(pruning, names, parameters, time, problems) }
    }

    /// Checks the network that the stage begins with.
    func checkStart(_ network: Network, _ problems: RecipeProblems) {
        guard let quantization, network.quantization != nil else { return }
        problems.add(
            "'\(startFrom?.value ?? "")' is quantized already and stays so; leave out 'quantize'",
            at: quantization.position)
    }

    private func check(
        _ quantization: Recipe.Quantization, _ time: StageTime, _ problems: RecipeProblems
    ) {
        let begin = time.at(quantization.begin)
        func fault(_ message: String) { problems.add(message, at: quantization.position) }
        if begin > time.steps {
            fault("'quantize' begins at step \(begin), the stage ends after \(time.steps)")
        }
        if begin == time.steps, selection != .last {
            fault(
                "a network that is quantized at the stage's end is not trained further, so there is no "
                    + "best pass of it; say `select: last`")
        }
        if begin == time.steps, patience != nil {
            fault(
                "'early_stop' counts passes of the quantized network; quantized at the stage's end, "
                    + "it has none")
        }
        if let pruning {
            let end = GradualPruning.rule(pruning, time).end
            if end >= begin {
                fault(
                    "pruning ends at step \(end), 'quantize' begins at step \(begin); "
                        + "it must begin later")
            }
        }
    }

    private func check(
        _ pruning: Recipe.Pruning, _ names: [String], _ parameters: ParameterSet, _ time: StageTime,
        _ problems: RecipeProblems
    ) {
        pruning.except.check(against: names, "'except'", problems)
        pruning.only?.check(against: names, "'only'", problems)
        let candidates = GradualPruning.candidates(pruning, in: parameters)
        if candidates.isEmpty {
            problems.add("'prune' has no weight to prune", at: pruning.position)
        }
        for entry in candidates
        where pruning.selection.pattern.grid(over: entry.parameter.shape) == nil {
            problems.add(
                "\(pruning.selection.pattern) do not divide '\(entry.name)' of shape "
                    + "\(entry.parameter.shape) [outputs, ..., inputs]; add it to 'except'",
                at: pruning.position)
        }
        let rule = GradualPruning.rule(pruning, time)
        if time.at(pruning.begin) > time.at(pruning.end) {
            problems.add("'during' ends before it begins", at: pruning.position)
        }
        if let rewind = pruning.rewindRate, time.at(rewind) > rule.end {
            problems.add(
                "'rewind_rate' goes to step \(time.at(rewind)), pruning ends at \(rule.end)",
                at: pruning.position)
        }
        for entry in candidates where frozen.match(entry.name) {
            problems.add("'\(entry.name)' is frozen and cannot be pruned", at: pruning.position)
        }
        if rule.end >= time.steps {
            problems.add(
                "pruning would end at step \(rule.end), the stage ends after \(time.steps)",
                at: pruning.position)
        }
    }
}

extension Recipe.OptimizerChoice {
    /// The rule at its first step, with what each parameter has for itself.
    func make(for network: Network) -> any Optimizer {
        var options: [String: ParameterOptions] = [:]
        let patterns = decay.except.map { NamePattern($0) }
        for entry in ParameterSet(network).entries
        where network.names(of: entry.name).contains(where: { name in
            patterns.contains { $0.matches(name) }
        }) {
            options[entry.name] = ParameterOptions(weightDecay: 0)
        }
        switch self {
        case .sgd(_, let momentum, let nesterov, let decay):
            return SGD(
                momentum: momentum, weightDecay: decay.amount, nesterov: nesterov, options: options)
        case .adamW(_, let beta1, let beta2, let epsilon, let decay):
            return AdamW(
                beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: decay.amount,
                options: options)
        }
    }
}
