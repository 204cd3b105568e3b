package import EspalierGraph
public import EspalierTensors

// Ops as methods of values. Shapes that do not fit trap with both shapes in the message: they are mistakes in
// model code.
extension Value {
    /// a + b with broadcasting.
    public static func + (a: Value, b: Value) -> Value { a.tape.apply(.add(Op.Add()), a, b) }

    /// Every element times `factor`.
    public func scaled(by factor: Float) -> Value {
        tape.apply(.scale(Op.Scale(factor: factor)), self)
    }

    /// The values on the grid of their codes; the gradient passes straight through.
    package func fakeQuantized(_ parameters: QuantizationParameters) -> Value {
        tape.apply(.fakeQuantize(Op.FakeQuantize(parameters: parameters)), self)
    }

    /// The values on the grid of a moving range, or of their own where it has seen nothing.
    ///
    /// Where the tape observes, their own range is reported under `owner`; the moving one does not change here. Values
    /// whose range is not finite stay as they are, so that the loss shows them.
    package func quantized(
        _ scheme: QuantizationScheme, moving: ValueRange, owner: AnyObject
    ) -> Value {
        let own = tape.observesRanges || !moving.isValid ? tensor.range : moving
        if tape.observesRanges, own.isValid {
            tape.observations.ranges.append(
                Observations.ObservedRange(owner: owner, range: own))
        }
        let range = moving.isValid && own.isValid ? moving : own
        return QuantizationParameters(scheme, covering: range).map { fakeQuantized($0) } ?? self
    }

    /// max(x, 0)
    public func relu() -> Value { tape.apply(.relu(Op.ReLU()), self) }

    /// x Wᵀ + b. [..., in], [out, in], [out] -> [..., out]
    public func linear(weight: Value, bias: Value?) -> Value {
        tape.apply(.linear(Op.Linear()), [self, weight] + (bias.map { [$0] } ?? [])).value
    }

    /// f(x Wᵀ + b), in one pass where the tape is for training. [..., in], [out, in], [out] -> [..., out]
    package func linear(weight: Value, bias: Value?, activation: Op.Linear.Activation) -> Value {
        if tape.mode == .training {
            let operands = [self, weight] + (bias.map { [$0] } ?? [])
            return tape.apply(.linear(Op.Linear(activation: activation)), operands).value
        }
        let z = linear(weight: weight, bias: bias)
        return switch activation {
        case .relu: z.relu()
        case .unary(let function): z.applying(function)
        }
    }

    /// Convolution. [N, H, W, in], [out, kh, kw, in / groups], [out] -> [N, OH, OW, out]
    package func conv2D(weight: Value, bias: Value?, _ attributes: Op.Conv2D) -> Value {
        tape.apply(.conv2D(attributes), [self, weight] + (bias.map { [$0] } ?? [])).value
    }

    /// Convolution with what follows it: one op while training, else one after another, as graphs have them.
    package func conv2D(
        weight: Value, bias: Value?, _ attributes: Op.Conv2D, activation: Op.Conv2D.Activation
    ) -> Value {
        guard tape.mode == .training, activation != .none else {
            let y = conv2D(weight: weight, bias: bias, attributes)
            switch activation {
            case .none: return y
            case .relu: return y.relu()
            case .pooledReLU:
                return y.relu().maxPool2D(Window2D(kernel: Size2D(2), stride: Size2D(2)))
            }
        }
        let fused = Op.Conv2D(
            stride: attributes.stride, padding: attributes.padding, dilation: attributes.dilation,
            groups: attributes.groups, activation: activation)
        return conv2D(weight: weight, bias: bias, fused)
    }

    /// The largest of each window. [N, H, W, C] -> [N, OH, OW, C]
    package func maxPool2D(_ window: Window2D) -> Value {
        tape.apply(.maxPool2D(Op.MaxPool2D(window: window)), self)
    }

    /// The mean of each window. [N, H, W, C] -> [N, OH, OW, C]
    package func averagePool2D(_ window: Window2D, countsPadding: Bool = true) -> Value {
        tape.apply(
            .averagePool2D(Op.AveragePool2D(window: window, countsPadding: countsPadding)), self)
    }

    /// Batch normalization with the batch's moments in training mode, else with those given.
    ///
    /// In training mode the moments are reported to the tape under `owner`, and what follows, a
    /// ReLU or the sum with another value and then a ReLU, is part of the op.
    package func batchNorm(
        weight: Value?, bias: Value?, running: Op.BatchNorm.Moments, epsilon: Float,
        owner: AnyObject, relu: Bool = false, adding other: Value? = nil
    ) -> Value {
        require(relu || other == nil, "a norm that adds a value has a ReLU behind it")
        require((weight == nil) == (bias == nil), "batch norm takes weight and bias, or neither")
        let isTraining = tape.mode == .training
        let op = Op.BatchNorm(
            epsilon: epsilon, moments: isTraining ? nil : running, relu: isTraining && relu,
            addsOperand: isTraining && other != nil)
        let operands = [self] + [weight, bias, isTraining ? other : nil].compactMap(\.self)
        let (value, moments) = tape.apply(.batchNorm(op), operands)
        if let moments {
            tape.observations.statistics.append(
                Observations.BatchStatistics(
                    owner: owner, mean: moments.mean, variance: moments.variance))
        }
        guard relu, !isTraining else { return value }
        return (other.map { value + $0 } ?? value).relu()
    }

    /// Softmax along an axis.
    public func softmax(axis: Int = -1) -> Value {
        tape.apply(.softmax(Op.Softmax(axis: axis)), self)
    }

    /// The logarithm of softmax along an axis.
    public func logSoftmax(axis: Int = -1) -> Value {
        tape.apply(.softmax(Op.Softmax(axis: axis, logarithm: true)), self)
    }

    /// x / (1 - p) with probability 1 - p, else 0; x itself in evaluation mode.
    public func dropout(_ probability: Float) -> Value {
        guard tape.mode == .training, probability > 0 else { return self }
        return dropout(
            Op.Dropout(probability: probability, kept: .drawn(from: tape.nextRandomStream())))
    }

    package func dropout(_ attributes: Op.Dropout) -> Value {
        tape.apply(.dropout(attributes), self)
    }

    /// The same elements under another shape; -1 stands for what is left.
    public func reshaped(to extents: [Int]) -> Value {
        tape.apply(.reshape(Op.Reshape(to: extents)), self)
    }

    /// All axes but the first as one. [N, ...] -> [N, ...product]
    public func flattened() -> Value {
        reshaped(to: [shape[0], shape.dropFirst().reduce(1, *)])
    }

    /// Cross-entropy of these logits. [..., C] -> [] or [...]
    package func crossEntropy(_ attributes: Op.CrossEntropy) -> Value {
        tape.apply(.crossEntropy(attributes), self)
    }

    /// Mean cross-entropy of these logits against classes; rows of the ignored class do not count. [..., C] -> []
    public func crossEntropy(
        _ classes: IndexTensor, smoothing: Float = 0, ignoredClass: Int32? = nil
    ) -> Value {
        crossEntropy(
            Op.CrossEntropy(
                target: .classes(classes), smoothing: smoothing, ignoredClass: ignoredClass))
    }

    /// T² KL(teacher || student) of these student logits, mean over rows. [..., C] -> []
    public func distillation(from teacher: Tensor, temperature: Float) -> Value {
        tape.apply(
            .distillation(Op.Distillation(teacher: teacher, temperature: temperature)), self)
    }

    package func distillation(_ attributes: Op.Distillation) -> Value {
        tape.apply(.distillation(attributes), self)
    }
}
