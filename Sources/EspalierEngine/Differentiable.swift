import EspalierGraph
import EspalierTensors

/// An op's forward and its gradient, side by side.
protocol Differentiable: Operation {
    /// The layouts that the forward reads its operands in, given those that they have. Asked where some operand is
    /// not row-major; by default all are read so.
    func layouts(reading operands: [Tensor]) -> [Layout]

    /// The result. Operands fit: `outputShape` has been asked.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor

    /// The loss's gradient for each operand from that for the result; nil where `saved.needed` says that
    /// nobody asks. The upstream gradient comes in the layout that the forward's result had.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?]

    /// The same, where it saves a pass over memory in place of what has arrived. An op that takes `arrived.sum` has it in
    /// its first gradient.
    func gradients(inPlace arrived: inout Arrived, _ saved: Saved) -> [Tensor?]
}

/// What has arrived at an op on the way back; whoever writes over it need not copy it, unless other ops were given the
/// same tensor.
struct Arrived {
    /// The gradient for the result.
    var upstream: Tensor
    /// What other readers have sent to the first operand.
    var sum: Tensor?
}

extension Differentiable {
    func gradients(inPlace arrived: inout Arrived, _ saved: Saved) -> [Tensor?] {
        gradients(arrived.upstream, saved)
    }

    func layouts(reading operands: [Tensor]) -> [Layout] {
        [Layout](repeating: .rowMajor, count: operands.count)
    }
}

/// An op that computes element by element where its operands have one shape.
protocol ElementWise: Differentiable {
    /// Whether finite operands, whatever they are, have a finite result and finite derivatives.
    var staysFinite: Bool { get }
}

extension ElementWise {
    var staysFinite: Bool { true }

    // One operand in blocks takes the others with it. What fills up a last block is finite and nobody's choice: the
    // result has to be so too, or a weight gradient would meet it as 0 times infinity.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        let shape = operands[0].shape
        let isBlocked =
            operands.contains { $0.layout == .tokenBlocked64 }
            && operands.allSatisfy { $0.shape == shape }
            && (staysFinite || Layout.fillsBlocks(shape))
        return [Layout](
            repeating: isBlocked ? .tokenBlocked64 : .rowMajor, count: operands.count)
    }
}

/// What a forward may keep for its gradient.
struct ForwardContext {
    /// Whether a gradient will be asked for; otherwise nothing need be kept.
    let isRecording: Bool
    /// Which operands the gradient will be asked for.
    let needed: [Bool]
    /// What the factors of products are rounded to.
    let precision: Precision
    private(set) var tensors: [Tensor] = []
    /// Batch statistics that a training forward reports.
    var moments: Op.BatchNorm.Moments?

    init(isRecording: Bool, needed: [Bool], precision: Precision) {
        self.isRecording = isRecording
        self.needed = needed
        self.precision = precision
    }

    /// Keeps tensors, in order.
    mutating func keep(_ tensors: Tensor...) { keep(tensors) }

    /// Keeps tensors, in order.
    mutating func keep(_ tensors: [Tensor]) {
        if isRecording { self.tensors.append(contentsOf: tensors) }
    }
}

/// What a forward kept.
struct Saved {
    let tensors: [Tensor]
    let inputShapes: [Shape]
    let needed: [Bool]
    let precision: Precision
}

extension Op {
    /// The rule behind each case. Exhaustive: an op without forward and gradient does not compile.
    var rule: any Differentiable {
        switch self {
        case .add(let op): op
        case .scale(let op): op
        case .mask(let op): op
        case .fakeQuantize(let op): op
        case .relu(let op): op
        case .linear(let op): op
        case .conv2D(let op): op
        case .maxPool2D(let op): op
        case .averagePool2D(let op): op
        case .batchNorm(let op): op
        case .softmax(let op): op
        case .dropout(let op): op
        case .reshape(let op): op
        case .crossEntropy(let op): op
        case .distillation(let op): op
        case .unary(let op): op
        case .binary(let op): op
        case .select(let op): op
        case .fill(let op): op
        case .reduce(let op): op
        case .cumulativeSum(let op): op
        case .permute(let op): op
        case .slice(let op): op
        case .concatenate(let op): op
        case .pad(let op): op
        case .expand(let op): op
        case .triangle(let op): op
        case .matMul(let op): op
        case .layerNorm(let op): op
        case .gather(let op): op
        case .take(let op): op
        case .scatterAdd(let op): op
        case .attention(let op): op
        case .residualNorm(let op): op
        case .resample(let op): op
        }
    }
}
