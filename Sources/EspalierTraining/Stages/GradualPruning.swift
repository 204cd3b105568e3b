import EspalierEngine
import EspalierNN
import EspalierTensors

/// Pruning of a stage's network: a sparsity that rises, and the weights that it takes.
struct GradualPruning {
    let rule: CubicSparsity
    let entries: [ParameterSet.Entry]
    private let selection: MaskSelection
    private let random: RandomStream

    /// The weights of a network that a recipe's pruning takes: matrices and filters, by its patterns.
    static func candidates(_ pruning: Recipe.Pruning, in set: ParameterSet) -> [ParameterSet.Entry]
    {
        set.entries.filter { entry in
            guard entry.parameter.shape.rank >= 2 else { return false }
            return (pruning.only?.match(entry.name) ?? true) && !pruning.except.match(entry.name)
        }
    }

    init(
        _ pruning: Recipe.Pruning, _ set: ParameterSet, _ time: StageTime, random: RandomStream
    ) {
        rule = GradualPruning.rule(pruning, time)
        entries = GradualPruning.candidates(pruning, in: set)
        selection = pruning.selection
        self.random = random
    }

    /// When the sparsity rises.
    static func rule(_ pruning: Recipe.Pruning, _ time: StageTime) -> CubicSparsity {
        let begin = time.at(pruning.begin)
        return CubicSparsity(
            initial: pruning.initial, final: pruning.target, begin: begin,
            end: max(time.at(pruning.end), begin), every: max(time.at(pruning.every), 1))
    }

    /// Chooses the masks for a step anew where it is an update; weights and optimizer state follow.
    ///
    /// - Parameter observe: Told of each parameter as its mask changes.
    func update(
        step: Int, optimizer: inout any Optimizer, observe: (String) -> Void
    ) {
        guard rule.isUpdate(step) else { return }
        // The random control draws the same lots each time.
        let masks = selection.masks(
            for: entries.map {
                MaskSelection.Candidate($0.parameter.value, mask: $0.parameter.mask)
            }, sparsity: rule.sparsity(at: step), random: random)
        for (entry, mask) in zip(entries, masks) {
            entry.parameter.setMask(mask)
            optimizer.state.apply(mask, to: entry.name)
            observe(entry.name)
        }
    }

    /// Whether exactly the weights that were asked for are pruned, else what is found.
    func shortfall() -> String? {
        let grids = entries.map { selection.pattern.grid(over: $0.parameter.shape) }
        let blocks = grids.map { $0?.count ?? 0 }
        let wanted: Int
        switch selection.scope {
        case .global:
            let size = grids.first.flatMap(\.self)?.blockSize ?? 1
            wanted = MaskSelection.count(rule.final, of: blocks.reduce(0, +)) * size
        case .layer:
            wanted = zip(blocks, grids).reduce(0) {
                $0 + MaskSelection.count(rule.final, of: $1.0) * ($1.1?.blockSize ?? 1)
            }
        }
        let pruned = entries.reduce(0) {
            $0 + $1.parameter.value.count
                - ($1.parameter.mask?.liveCount ?? $1.parameter.value.count)
        }
        return pruned == wanted ? nil : "\(pruned) weights are pruned, \(wanted) were asked for"
    }
}

/// Sparsity of a network over the weights that carry masks or may be pruned.
struct SparsityCount: Equatable {
    /// Weights that are masked.
    var pruned = 0
    /// Weights in the parameters that count.
    var total = 0

    var share: Double { total == 0 ? 0 : Double(pruned) / Double(total) }

    /// Counts the parameters that carry a mask, and those named.
    init(_ set: ParameterSet, including names: [String] = []) {
        for entry in set.entries {
            guard let mask = entry.parameter.mask else {
                if names.contains(entry.name) { total += entry.parameter.shape.elementCount }
                continue
            }
            pruned += mask.shape.elementCount - mask.liveCount
            total += mask.shape.elementCount
        }
    }
}

extension ParameterSet {
    /// One fingerprint of all masks, in order; nil where there are none.
    var maskFingerprint: String? {
        let prints = entries.compactMap { $0.parameter.mask?.fingerprint }
        guard !prints.isEmpty else { return nil }
        let combined = prints.reduce(UInt64(prints.count)) { ($0 &* 0x100_0000_01B3) ^ $1 }
        let digits = String(combined, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
