import EspalierEngine
import EspalierNN
import EspalierTensors

/// How long a stage is.
struct StageTime {
    let stepsPerEpoch: Int
    let steps: Int

    init(_ stage: Recipe.Stage, examples: Int) {
        stepsPerEpoch = (examples + stage.batch - 1) / stage.batch
        steps = stepsPerEpoch * stage.epochs
    }

    /// The number of steps that a span stands for.
    func at(_ span: StepSpan) -> Int { span.steps(perEpoch: stepsPerEpoch, total: steps) }
}

/// A network in training with all that depends on which network it is: made anew where a stage replaces it.
struct Trainee {
    let network: Network
    let parameters: ParameterSet
    /// Statistics and ranges that keep their value.
    let frozenBuffers: Set<ObjectIdentifier>
    let pruning: GradualPruning?
    /// At its first step.
    var optimizer: any Optimizer

    /// Freezes and locks what the stage says.
    init(_ network: Network, _ stage: Recipe.Stage, _ time: StageTime, _ random: RandomStream) {
        self.network = network
        let parameters = ParameterSet(network)
        self.parameters = parameters
        for entry in parameters.entries
        where network.names(of: entry.name).contains(where: stage.frozen.match) {
            entry.parameter.isTrainable = false
        }
        frozenBuffers = Set(
            parameters.buffers.filter { stage.frozen.match($0.name) }.map {
                ObjectIdentifier($0.buffer)
            })
        if stage.locksMasks {
            for entry in parameters.entries where entry.parameter.mask != nil {
                entry.parameter.lockMask()
            }
        }
        pruning = stage.pruning.map {
            GradualPruning($0, parameters, time, random: random.child("prune"))
        }
        optimizer = stage.optimizer.make(for: network)
    }

    /// Over the weights that carry masks or may be pruned.
    var sparsity: SparsityCount {
        SparsityCount(parameters, including: pruning?.entries.map(\.name) ?? [])
    }
}

extension Network {
    /// The names that a recipe's patterns may call a parameter by: its own, and that of the norm's that it took in.
    func names(of parameter: String) -> [String] {
        [parameter] + foldedNames.filter { $0.now == parameter }.map(\.before)
    }
}
