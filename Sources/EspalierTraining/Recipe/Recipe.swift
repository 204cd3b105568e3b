public import EspalierData
public import EspalierEngine
public import EspalierNN

/// A run: what is trained on what, stage after stage. Read from YAML by `Recipe.init(text:...)`.
public struct Recipe: Sendable {
    /// What it is about.
    public var name: String
    /// The one seed of everything random.
    public var seed: UInt64
    /// Data sets by name.
    public var data: [String: Data]
    /// Networks by name.
    public var models: [String: Architecture]
    /// In order; each leaves a network of its own name.
    public var stages: [Stage]
    /// What the closing table shows.
    public var report: Report?
    /// What it leaves for others to use.
    public var export: Export?
    /// The recipe after defaults, variables and `--set`, to recognise it by.
    public var canonical: String
    /// The file that it was read from.
    public var path: String

    /// A data set and what is asked about it.
    public struct Data: Sendable {
        /// Where it comes from.
        public enum Source: Sendable, Hashable {
            /// A name, looked for in the usual places.
            case named(String)
            /// A folder.
            case folder(String)
        }

        /// Where it comes from.
        public var source: Located<Source>
        /// What is asked.
        public var task: ImageTask
        /// The share of the training images that is kept for selection where there is no dev part.
        public var dev: Double
        /// The number of classes; nil takes those that occur.
        public var classes: Int?
        /// Changes to training images.
        public var augmentation: Augmentation
        /// The largest pixel; nil takes the largest that occurs.
        public var largestPixel: Double?
    }

    /// A phase of the run.
    public struct Stage: Sendable {
        /// Its name, and that of the network it leaves.
        public var name: Located<String>
        /// The network that it makes, where it does not start from another.
        public var model: Located<String>?
        /// The stage or file that it starts from.
        public var startFrom: Located<String>?
        /// Whether it begins with a new head.
        public var hasNewHead: Bool
        /// The data set.
        public var data: Located<String>
        /// Passes over the data.
        public var epochs: Int
        /// Examples in a step.
        public var batch: Int
        /// The parts that a step's examples are computed in, one after another; their gradients are added.
        public var microBatches: Int
        /// What the factors of products are rounded to.
        public var precision: Precision
        /// Whether the layers' values are computed again for the gradient rather than kept.
        public var recomputes: Bool
        /// The update rule.
        public var optimizer: OptimizerChoice
        /// How the rate changes.
        public var schedule: Schedule.Shape
        /// How long the rate rises.
        public var warmup: StepSpan
        /// Limits of the gradients.
        public var clipping: GradientClipping?
        /// Label smoothing.
        public var smoothing: Float
        /// Epochs without a better dev accuracy after which it ends.
        public var patience: Int?
        /// Whether the best network on the dev part is kept, or the last.
        public var selection: Selection
        /// Pruning during the stage.
        public var pruning: Pruning?
        /// Whether the masks it starts with are final.
        public var locksMasks: Bool
        /// A teacher.
        public var distillation: Distillation?
        /// Parameters that keep their value.
        public var frozen: [Located<String>]
        /// Training with codes for weights and activations, from some step on.
        public var quantization: Quantization?
        /// How often the state is saved within an epoch; it is always saved at its end.
        public var checkpointEvery: StepSpan?
    }

    /// Which network a stage leaves.
    public enum Selection: String, Sendable, CaseIterable {
        /// That of the best pass on the dev part, once pruning has ended and the network is quantized.
        case best
        /// That of the last pass.
        case last
    }

    /// An update rule with its base rate.
    public enum OptimizerChoice: Sendable, Hashable {
        case sgd(rate: Float, momentum: Float, nesterov: Bool, decay: Decay)
        case adamW(rate: Float, beta1: Float, beta2: Float, epsilon: Float, decay: Decay)

        /// The base rate.
        public var rate: Float {
            switch self {
            case .sgd(let rate, _, _, _), .adamW(let rate, _, _, _, _): rate
            }
        }

        /// Numbers that it remembers for each that it trains.
        var slots: Int {
            switch self {
            case .sgd(_, let momentum, _, _): momentum == 0 ? 0 : 1
            case .adamW: 2
            }
        }

        /// Weight decay.
        public var decay: Decay {
            switch self {
            case .sgd(_, _, _, let decay), .adamW(_, _, _, _, let decay): decay
            }
        }
    }

    /// Weight decay, and the parameters without it.
    public struct Decay: Sendable, Hashable {
        /// What weights are multiplied by, times the rate, and taken off.
        public var amount: Float
        /// Patterns of parameters without it.
        public var except: [String]
    }

    /// Gradual pruning.
    public struct Pruning: Sendable {
        /// The place of the entry.
        public var position: RecipePosition
        /// The sparsity at the end.
        public var target: Double
        /// The sparsity at the beginning.
        public var initial: Double
        /// When it begins.
        public var begin: StepSpan
        /// When it ends.
        public var end: StepSpan
        /// Between two updates.
        public var every: StepSpan
        /// Which weights go.
        public var selection: MaskSelection
        /// Weights that are kept, by patterns.
        public var except: [Located<String>]
        /// Weights that are pruned, by patterns; nil is all weights of linear layers and convolutions.
        public var only: [Located<String>]?
        /// Where the rate's schedule goes back to when pruning has ended.
        public var rewindRate: StepSpan?
    }

    /// Quantization during the stage.
    public struct Quantization: Sendable {
        /// The place of the entry.
        public var position: RecipePosition
        /// How numbers become codes.
        public var schemes: NetworkQuantization
        /// The step before which the network is quantized; at the stage's end nothing is trained afterwards.
        public var begin: StepSpan
    }

    /// A teacher and its share of the loss.
    public struct Distillation: Sendable {
        /// A stage or a file.
        public var teacher: Located<String>
        /// Of the distillation loss.
        public var weight: Float
        /// Of the task's loss.
        public var taskWeight: Float
        /// What logits are divided by.
        public var temperature: Float
    }

    /// The closing table: which stages are read on the test part, and as what.
    public struct Report: Sendable {
        /// The dense network that the student is measured against.
        public var teacher: Located<String>
        /// The result.
        public var student: Located<String>
        /// Other stages to compare with, by label.
        public var controls: [(label: String, stage: Located<String>)]
    }
}
