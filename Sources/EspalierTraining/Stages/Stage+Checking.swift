import EspalierNN

extension Recipe.Stage {
    /// Checks all that can be known once the network is there.
    func check(
        names: [String], parameters: ParameterSet, stepsPerEpoch: Int, _ problems: RecipeProblems
    ) {
        frozen.check(against: names + parameters.buffers.map(\.name), "'freeze'", problems)
        for pattern in optimizer.decay.except
        where !names.contains(where: { NamePattern(pattern).matches($0) }) {
            problems.add(
                "'no_decay' \(pattern) matches no parameter; "
                    + suggestion(for: pattern, among: names),
                at: name.position)
        }
        let total = stepsPerEpoch * epochs
        let rise = warmup.steps(perEpoch: stepsPerEpoch, total: total)
        if rise >= total {
            problems.add(
                "'warmup' takes \(rise) steps, the stage ends after \(total)", at: name.position)
        }
        guard let pruning else { return }
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
        let rule = GradualPruning.rule(pruning, stepsPerEpoch: stepsPerEpoch, steps: total)
        func at(_ span: StepSpan) -> Int { span.steps(perEpoch: stepsPerEpoch, total: total) }
        if at(pruning.begin) > at(pruning.end) {
            problems.add("'during' ends before it begins", at: pruning.position)
        }
        if let rewind = pruning.rewindRate, at(rewind) > rule.end {
            problems.add(
                "'rewind_rate' goes to step \(at(rewind)), pruning ends at \(rule.end)",
                at: pruning.position)
        }
        for entry in candidates where frozen.match(entry.name) {
            problems.add("'\(entry.name)' is frozen and cannot be pruned", at: pruning.position)
        }
        if rule.end >= total {
            problems.add(
                "pruning would end at step \(rule.end), the stage ends after \(total)",
                at: pruning.position)
        }
    }
}

extension Recipe.OptimizerChoice {
    /// The rule at its first step, with what each parameter has for itself.
    func make(for parameters: ParameterSet) -> any Optimizer {
        var options: [String: ParameterOptions] = [:]
        for entry in parameters.entries
        where decay.except.contains(where: { NamePattern($0).matches(entry.name) }) {
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
