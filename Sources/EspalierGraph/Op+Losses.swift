package import EspalierTensors

/// How a loss over examples becomes one number.
package enum Reduction: Sendable, Hashable {
    /// The sum over the sum of the weights.
    case mean
    case sum
    /// One loss an example.
    case none
}

extension Op {
    /// Cross-entropy of logits [..., C] against classes or class probabilities.
    ///
    /// With label smoothing e: (1 - e) times the loss of the target plus e / C times the sum of all
    /// classes' losses. The mean divides by the sum of the weights of the targets that count.
    package struct CrossEntropy: Operation {
        package enum Target: Sendable {
            /// One class for each row of logits.
            case classes(IndexTensor)
            /// A distribution for each row, of the logits' shape.
            case probabilities(Tensor)
        }

        package let target: Target
        package let classWeights: Tensor?
        package let smoothing: Float
        /// A class whose rows do not count.
        package let ignoredClass: Int32?
        package let reduction: Reduction

        package init(
            target: Target, classWeights: Tensor? = nil, smoothing: Float = 0,
            ignoredClass: Int32? = nil, reduction: Reduction = .mean
        ) {
            self.target = target
            self.classWeights = classWeights
            self.smoothing = smoothing
            self.ignoredClass = ignoredClass
            self.reduction = reduction
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let rows = Shape(inputs[0].dropLast())
            switch target {
            case .classes(let classes) where classes.shape != rows:
                throw ShapeError("cross-entropy: \(classes.shape) classes for logits \(inputs[0])")
            case .probabilities(let tensor) where tensor.shape != inputs[0]:
                throw ShapeError("cross-entropy: targets \(tensor.shape) for logits \(inputs[0])")
            default: return reduction == .none ? rows : []
            }
        }
    }

    /// Knowledge distillation: T² times the Kullback-Leibler divergence of the teacher's softened
    /// distribution from the student's, mean over rows. Operand: student logits [..., C].
    ///
    /// Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
    package struct Distillation: Operation {
        /// Logits of the student's shape; no gradient flows to them.
        package let teacher: Tensor
        package let temperature: Float
        /// Rows that count, one entry a row; nil counts all.
        package let rows: [Bool]?

        package init(teacher: Tensor, temperature: Float, rows: [Bool]? = nil) {
            self.teacher = teacher
            self.temperature = temperature
            self.rows = rows
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard inputs[0] == teacher.shape else {
                throw ShapeError(
                    "distillation: student logits \(inputs[0]), teacher logits \(teacher.shape)")
            }
            return []
        }
    }
}
