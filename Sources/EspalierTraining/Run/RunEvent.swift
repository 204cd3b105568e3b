import EspalierCodec

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
    /// Ranges were found on one more batch, before the network is quantized.
    case calibrated(batch: Int, of: Int)
    /// The network was replaced by its quantized form.
    case quantized(QuantizationRecord)
    /// A pass over the data is done.
    case epochEnded(EpochRecord)
    /// A file is being written.
    case writing(path: String, WriteProgress)
    /// A stage has left its network.
    case stageEnded(String)
    /// The test part is read, after all training.
    case testOpened
    /// A network was written as a file to be used.
    case exported(path: String, bytes: Int)
    /// The student's forward on the tape was compared with the runtime.
    case compared(TapeComparison)
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
    /// The kind of line in the log.
    public var event = "stage"
    /// Its name.
    public var stage: String
    /// Trainable numbers of the network.
    public var parameters: Int
    /// Weights that pruning may take, or that carry a mask.
    public var prunable: Int
    /// Examples in a pass.
    public var examples: Int
    /// Examples for selection.
    public var devExamples: Int
    /// Passes over the data.
    public var epochs: Int
    /// Optimizer steps of all passes.
    public var steps: Int
    /// Bytes of tensors that a step takes at most, as predicted before the first.
    public var stepBytes: Int
    /// What it starts from.
    public var startFrom: String?
    /// What teaches it.
    public var teacher: String?
    /// Tensors taken over from the start.
    public var taken: [String]
    /// Tensors made anew.
    public var new: [String]
    /// Tensors of the start that nobody took.
    public var unused: [String]
}

/// Where a stage stands after a step.
public struct StepProgress: Sendable {
    /// The stage's name.
    public var stage: String
    /// The pass under way, counted from 1.
    public var epoch: Int
    /// Passes of the stage.
    public var epochs: Int
    /// Steps done in the stage.
    public var step: Int
    /// Steps of the stage.
    public var steps: Int
    /// Mean over the pass so far.
    public var loss: Double
    /// Share of the prunable weights that are pruned.
    public var sparsity: Double
    /// Examples of the step.
    public var examples: Int
}

/// What a pass over the data gave: a line of the log.
public struct EpochRecord: Sendable, Encodable {
    /// The kind of line in the log.
    public var event = "epoch"
    /// The stage's name.
    public var stage: String
    /// The pass, counted from 1.
    public var epoch: Int
    /// Steps done in the stage.
    public var step: Int
    /// Mean over the pass.
    public var loss: Double
    /// The learning rate of the last step.
    public var rate: Double
    /// Share of the prunable weights that are pruned.
    public var sparsity: Double
    /// Share of the dev part that the network classifies.
    public var devAccuracy: Double?
    /// Mean cross-entropy on the dev part.
    public var devLoss: Double?
    /// Whether it is the best pass so far.
    public var isBest: Bool
}

/// A network that was quantized: a line of the log.
public struct QuantizationRecord: Sendable, Encodable {
    /// The kind of line in the log.
    public var event = "quantized"
    /// The stage's name.
    public var stage: String
    /// Steps done in the stage.
    public var step: Int
    /// The weights that have codes.
    public var parameters: [String]
    /// The places where activations have codes, with the ranges that calibration found.
    public var sites: [Site]
    /// Share of the dev part that the network classifies, before any further step.
    public var devAccuracy: Double?
    /// Mean cross-entropy on the dev part.
    public var devLoss: Double?

    /// A place where activations have codes.
    public struct Site: Sendable, Encodable {
        /// Its name.
        public var name: String
        /// The lowest value.
        public var low: Double
        /// The highest.
        public var high: Double
    }
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
