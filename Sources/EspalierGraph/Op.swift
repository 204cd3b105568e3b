package import EspalierTensors

/// The one vocabulary of tape, graph and runtime: what can be computed from tensors.
///
/// Each case carries its attributes; its operands are the edges of the tape or graph. The engine finds forward
/// and gradient through one exhaustive switch, so that a new case cannot be forgotten.
package enum Op: Sendable {
    case add(Add)
    case scale(Scale)
    case mask(ApplyMask)
    case fakeQuantize(FakeQuantize)
    case relu(ReLU)
    case linear(Linear)
    case conv2D(Conv2D)
    case maxPool2D(MaxPool2D)
    case averagePool2D(AveragePool2D)
    case batchNorm(BatchNorm)
    case softmax(Softmax)
    case dropout(Dropout)
    case reshape(Reshape)
    case crossEntropy(CrossEntropy)
    case distillation(Distillation)
    case unary(Unary)
    case binary(Binary)
    case select(Select)
    case fill(Fill)
    case reduce(Reduce)
    case cumulativeSum(CumulativeSum)
    case permute(Permute)
    case slice(Slice)
    case concatenate(Concatenate)
    case pad(Pad)
    case expand(Expand)
    case triangle(Triangle)
    case matMul(MatMul)
    case layerNorm(LayerNorm)
    case gather(Gather)
    case take(Take)
    case scatterAdd(ScatterAdd)
    case attention(Attention)
    case residualNorm(ResidualNorm)
    case resample(Resample)
}

extension Op {
    /// The attributes as what determines shapes.
    package var operation: any Operation {
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

/// Operands whose shapes an op cannot take.
package struct ShapeError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// What an op is: its operands' shapes determine its result's.
package protocol Operation: Sendable {
    /// The shape of the result.
    ///
    /// - Throws: `ShapeError` where the operands do not fit, with their shapes.
    func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape
}

extension Op {
    /// a + b with broadcasting.
    package struct Add: Operation {
        package init() {}

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard let shape = inputs[0].broadcast(with: inputs[1]) else {
                throw ShapeError("add: shapes \(inputs[0]) and \(inputs[1]) cannot be broadcast")
            }
            return shape
        }
    }

    /// factor * x
    package struct Scale: Operation {
        package let factor: Float

        package init(factor: Float) { self.factor = factor }

        package func outputShape(_ inputs: [Shape]) -> Shape { inputs[0] }
    }

    /// x where the mask is set, elsewhere +0. Its operand is a parameter's raw value, which already is
    /// +0 there; so the forward changes nothing and the gradient is masked.
    package struct ApplyMask: Operation {
        package let mask: Mask

        package init(mask: Mask) { self.mask = mask }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard inputs[0] == mask.shape else {
                throw ShapeError("mask: a mask of shape \(mask.shape) for a tensor of \(inputs[0])")
            }
            return inputs[0]
        }
    }

    /// Values on the grid of their codes. The gradient passes straight through where a code is in range.
    ///
    /// Jacob et al., "Quantization and training of neural networks", CVPR 2018.
    package struct FakeQuantize: Operation {
        package let parameters: QuantizationParameters

        package init(parameters: QuantizationParameters) { self.parameters = parameters }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            if case .channel(let axis) = parameters.scheme.granularity {
                guard axis >= 0, axis < inputs[0].rank, inputs[0][axis] == parameters.scales.count
                else {
                    throw ShapeError(
                        "fake quantization: \(parameters.scales.count) scales along axis \(axis) of "
                            + "\(inputs[0])")
                }
            }
            return inputs[0]
        }
    }

    /// max(x, 0)
    package struct ReLU: Operation {
        package init() {}

        package func outputShape(_ inputs: [Shape]) -> Shape { inputs[0] }
    }

    /// x Wᵀ + b. Operands: x [..., in], weight [out, in] and perhaps bias [out].
    package struct Linear: Operation {
        /// What a training tape applies to the result in the same pass. Others record it as an op of its own.
        package enum Activation: Sendable, Hashable {
            case relu
            case unary(Unary.Function)
        }

        package let activation: Activation?

        package init(activation: Activation? = nil) { self.activation = activation }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let (x, weight) = (inputs[0], inputs[1])
            guard weight.rank == 2, x.rank >= 1, x.last == weight[1] else {
                throw ShapeError("linear: input \(x) does not fit weight \(weight) [out, in]")
            }
            if inputs.count > 2, inputs[2] != [weight[0]] {
                throw ShapeError("linear: bias \(inputs[2]) does not fit weight \(weight)")
            }
            return Shape(x.dropLast() + [weight[0]])
        }
    }

    /// Softmax, or its logarithm, along one axis.
    package struct Softmax: Operation {
        package let axis: Int
        package let logarithm: Bool

        package init(axis: Int = -1, logarithm: Bool = false) {
            self.axis = axis
            self.logarithm = logarithm
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard axis >= -inputs[0].rank, axis < inputs[0].rank else {
                throw ShapeError("softmax: axis \(axis) does not exist in \(inputs[0])")
            }
            return inputs[0]
        }
    }

    /// x / (1 - p) with probability 1 - p, else 0.
    package struct Dropout: Operation {
        /// Which elements are kept.
        package enum Kept: Sendable {
            case drawn(from: RandomStream)
            /// 1 where kept, else 0.
            case given(Tensor)
        }

        package let probability: Float
        package let kept: Kept

        package init(probability: Float, kept: Kept) {
            self.probability = probability
            self.kept = kept
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard probability >= 0, probability < 1 else {
                throw ShapeError("dropout: the probability \(probability) is not in 0..<1")
            }
            return inputs[0]
        }
    }

    /// The same elements under another shape; -1 stands for what is left.
    package struct Reshape: Operation {
        package let extents: [Int]

        package init(to extents: [Int]) { self.extents = extents }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let size = inputs[0].elementCount
            let open = extents.count { $0 == -1 }
            // Extents may come from a file: their product must not overflow.
            let (known, overflow) = extents.filter { $0 >= 0 }.reduce((1, false)) {
                let (product, overflow) = $0.0.multipliedReportingOverflow(by: $1)
                return (product, $0.1 || overflow)
            }
            let fits = open == 0 ? known == size : known > 0 && size % known == 0
            guard extents.count <= Shape.maximumRank, open <= 1, !overflow, fits,
                open == 0 || size / known <= Int32.max, extents.allSatisfy({ $0 <= Int32.max })
            else { throw ShapeError("reshape: \(inputs[0]) cannot become \(extents)") }
            return Shape(extents.map { $0 == -1 ? size / known : $0 })
        }
    }

    /// Batch normalization over all axes but the last: (x - mean) / sqrt(variance + epsilon), then
    /// weight and bias. Operands: x [..., C], weight [C] and bias [C], or x alone.
    ///
    /// Ioffe and Szegedy, "Batch normalization", ICML 2015.
    package struct BatchNorm: Operation {
        package let epsilon: Float
        /// Mean and variance to use; nil takes those of the batch (training).
        package let moments: Moments?

        package struct Moments: Sendable {
            package let mean: Tensor
            package let variance: Tensor

            package init(mean: Tensor, variance: Tensor) {
                self.mean = mean
                self.variance = variance
            }
        }

        /// Whether max(., 0) follows in the same pass. Only while training: a graph has an op of its own for it.
        package let relu: Bool
        /// Whether before that the last operand is added, of the shape of x. With `relu` only.
        package let addsOperand: Bool

        package init(
            epsilon: Float, moments: Moments?, relu: Bool = false, addsOperand: Bool = false
        ) {
            self.relu = relu
            self.addsOperand = addsOperand
            self.epsilon = epsilon
            self.moments = moments
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let perChannel = addsOperand ? inputs.dropFirst().dropLast() : inputs.dropFirst()
            guard let channels = inputs[0].last, !addsOperand || inputs.last == inputs[0],
                perChannel.allSatisfy({ $0 == [channels] }),
                moments.map({ $0.mean.shape == [channels] && $0.variance.shape == [channels] })
                    ?? true
            else { throw ShapeError("batch norm: operands \(inputs) do not fit") }
            return inputs[0]
        }
    }
}
