import EspalierInterchange

/// What happens in a run, for those who watch: progress bars, tests that interrupt it.
public enum RunEvent: Sendable {
    /// A stage begins, or goes on after `step` steps.
    case stageBegan(StageSummary, step: Int)
    /// Something to tell once, such as which tensors were taken over.
    case note(String)
    /// A step is done.
    case stepped(StepProgress)
    /// Masks were chosen anew for one parameter.
    case pruned(parameter: String, step: Int)
    /// A pass over the data is done.
    case epochEnded(EpochRecord)
    /// A file is being written.
    case writing(path: String, WriteProgress)
    /// A stage has left its network.
    case stageEnded(String)
    /// The test part is read, after all training.
    case testOpened
}

/// How far the writing of a file has come.
public enum WriteProgress: Sendable, Hashable {
    case opened
    case wrote(bytes: Int)
    case synchronized
    case renamed
}

/// A stage in numbers.
public struct StageSummary: Sendable, Encodable {
    public var event = "stage"
    public var stage: String
    /// Of the network.
    public var parameters: Int
    /// Weights that pruning may take, or that carry a mask.
    public var prunable: Int
    public var examples: Int
    public var devExamples: Int
    public var epochs: Int
    public var steps: Int
    public var startFrom: String?
    public var teacher: String?
    /// Tensors taken over from the start, made anew, and left unused.
    public var taken: [String]
    public var new: [String]
    public var unused: [String]
}

/// Where a stage stands after a step.
public struct StepProgress: Sendable {
    public var stage: String
    /// Counted from 1.
    public var epoch: Int
    public var epochs: Int
    /// Done in the stage.
    public var step: Int
    public var steps: Int
    /// Mean over the pass so far.
    public var loss: Double
    public var sparsity: Double
    /// Of the step.
    public var examples: Int
}

/// What a pass over the data gave: a line of the log.
public struct EpochRecord: Sendable, Encodable {
    public var event = "epoch"
    public var stage: String
    /// Counted from 1.
    public var epoch: Int
    public var step: Int
    public var loss: Double
    public var rate: Double
    public var sparsity: Double
    public var devAccuracy: Double?
    public var devLoss: Double?
    public var isBest: Bool
}

/// Hears of everything as it happens, on the run's own thread.
public typealias RunObserver = (RunEvent) -> Void

extension RunEvent {
    static func writing(_ path: String, _ step: FileAccess.WriteStep) -> RunEvent {
        switch step {
        case .opened: .writing(path: path, .opened)
        case .wrote(let bytes): .writing(path: path, .wrote(bytes: bytes))
        case .synchronized: .writing(path: path, .synchronized)
        case .renamed: .writing(path: path, .renamed)
        }
    }
}

/// Training that cannot go on.
public struct TrainingError: Error, CustomStringConvertible {
    /// What happened, where, and what to do.
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A run that was asked to stop; its state is saved.
public struct RunInterrupted: Error, CustomStringConvertible {
    /// The run's folder.
    public let folder: String

    public var description: String {
        "stopped; everything so far is in \(folder); run the same command with --resume to go on"
    }
}
