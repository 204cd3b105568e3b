public import EspalierEngine
import EspalierGraph
import EspalierKernels
public import EspalierTensors

/// Batch normalization over all axes but the last. [..., C] -> [..., C]
///
/// Ioffe and Szegedy, "Batch normalization", ICML 2015. The forward is pure: in training the tape reports the
/// batch's statistics, and the trainer folds them into `running` once a step.
public struct BatchNorm: Layer {
    /// Scale of each channel. [C]
    public let weight: Parameter
    /// Shift of each channel. [C]
    public let bias: Parameter
    /// What evaluation normalizes by.
    public let running: RunningMoments
    /// Added to the variance.
    public let epsilon: Float

    /// A layer over `channels`.
    public init(channels: Int, epsilon: Float = 1e-5, momentum: Float = 0.1) {
        weight = Parameter(Tensor(repeating: 1, shape: [channels]))
        bias = Parameter(.zeros([channels]))
        running = RunningMoments(channels: channels, momentum: momentum)
        self.epsilon = epsilon
    }

    public func callAsFunction(_ x: Value) -> Value { self(x, relu: false) }

    /// The layer with a ReLU behind it, in one pass while training; `other` is added before that.
    package func callAsFunction(_ x: Value, relu: Bool, adding other: Value? = nil) -> Value {
        x.batchNorm(
            weight: x.tape.parameter(weight), bias: x.tape.parameter(bias),
            running: Op.BatchNorm.Moments(
                mean: running.mean.value, variance: running.variance.value),
            epsilon: epsilon, owner: running, relu: relu, adding: other)
    }

    /// Weight and bias of a layer that does what a layer and this norm behind it do in evaluation mode.
    ///
    /// weight' = weight s and bias' = (bias - mean) s + shift, with s = scale / sqrt(variance + epsilon) of each output;
    /// outputs are the weight's first axis.
    public func folded(into weight: Tensor, bias: Tensor?) -> (weight: Tensor, bias: Tensor) {
        let moments = Op.BatchNorm.Moments(
            mean: running.mean.value, variance: running.variance.value)
        return Op.BatchNorm(epsilon: epsilon, moments: moments).folded(
            moments, scale: self.weight.value, shift: self.bias.value, into: weight, bias: bias)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("weight", weight)
        visitor.visit("bias", bias)
        visitor.visit("running", running)
    }
}

/// Moving averages of a batch norm's mean and unbiased variance.
public final class RunningMoments: Module {
    /// [C]
    public let mean: Buffer
    /// [C]
    public let variance: Buffer
    /// The share that a new batch gets.
    public let momentum: Float

    init(channels: Int, momentum: Float) {
        mean = Buffer(.zeros([channels]))
        variance = Buffer(Tensor(repeating: 1, shape: [channels]))
        self.momentum = momentum
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("mean", mean)
        visitor.visit("variance", variance)
    }

    private func fold(mean: Tensor, variance: Tensor) {
        for (buffer, new) in [(self.mean, mean), (self.variance, variance)] {
            var value = Kernels.scale(buffer.value, by: 1 - momentum)
            Kernels.add(new, times: momentum, to: &value)
            buffer.value = value
        }
    }

    /// Folds what a tape's forward saw into the running statistics that it belongs to, but for those whose `mean` is
    /// among the buffers to keep.
    public static func fold(
        _ statistics: [Observations.BatchStatistics], keeping frozen: Set<ObjectIdentifier> = []
    ) {
        for batch in statistics {
            guard let moments = batch.owner as? RunningMoments,
                !frozen.contains(ObjectIdentifier(moments.mean))
            else { continue }
            moments.fold(mean: batch.mean, variance: batch.variance)
        }
    }
}
