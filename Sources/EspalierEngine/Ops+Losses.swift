import EspalierGraph
import EspalierKernels
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

extension Op.CrossEntropy: Differentiable {
    // Kept: the logits and a few numbers a row. The gradient is computed from them in one pass, so that nothing else of
    // the logits' size is ever held.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let logits = inputs[0]
        let (targets, divisor) = targets(classes: logits.shape[logits.shape.rank - 1])
        let (losses, weights, sums) = Kernels.crossEntropy(logits, targets)
        context.keep(logits, weights, sums, Tensor(divisor))
        guard reduction != .none else {
            return losses.reshaped(to: Shape(logits.shape.dropLast()))
        }
        let total = losses.elements.reduce(0.0) { $0 + Double($1) }
        return Tensor(Float(reduction == .mean ? total / Double(divisor) : total))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (logits, weights, sums) = (saved.tensors[0], saved.tensors[1], saved.tensors[2])
        let factors =
            switch reduction {
            case .none: upstream.reshaped(to: weights.shape)
            case .sum: Tensor(repeating: upstream.scalar, shape: weights.shape)
            case .mean:
                Tensor(
                    repeating: upstream.scalar * (1 / saved.tensors[3].scalar),
                    shape: weights.shape)
            }
        let (targets, _) = targets(classes: logits.shape[logits.shape.rank - 1])
        return [
            Kernels.crossEntropyGradient(
                logits, targets, weights: weights, sums: sums, factors: factors)
        ]
    }

    /// What the kernels hold rows against, and what the mean divides by.
    private func targets(classes: Int) -> (Kernels.CrossEntropyTargets, divisor: Float) {
        switch target {
        case .probabilities(let tensor):
            let rows = classes == 0 ? 0 : tensor.count / classes
            return (
                Kernels.CrossEntropyTargets(
                    classes: nil, probabilities: tensor, weights: classWeights,
                    smoothing: smoothing), Float(rows)
            )
        case .classes(let labels):
            let weights = classWeights?.elements
            var divisor: Float = 0
            let live = labels.elements.enumerated().map { row, label -> Int32 in
                if label == ignoredClass { return -1 }
                require(
                    (0..<classes).contains(Int(label)),
                    "cross-entropy: class \(label) in row \(row) is not in 0..<\(classes)")
                divisor += weights?[Int(label)] ?? 1
                return label
            }
            return (
                Kernels.CrossEntropyTargets(
                    classes: live, probabilities: nil, weights: classWeights, smoothing: smoothing),
                divisor
            )
        }
    }
}

extension Op.Distillation: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let student = Kernels.logSoftmax(inputs[0], factor: 1 / temperature)
        let taught = Kernels.logSoftmax(teacher, factor: 1 / temperature)
        let classes = student.shape[student.shape.rank - 1]
        let count = classes == 0 ? 0 : student.count / classes
        let (q, p) = (student.span, taught.span)
        var (total, counted) = (0.0, 0)
        for row in 0..<count where rows?[row] ?? true {
            counted += 1
            for index in row * classes..<(row + 1) * classes {
                // The limit of p log p at 0 is 0.
                let probability = exp(Double(p[index]))
                if probability > 0 { total += probability * Double(p[index] - q[index]) }
            }
        }
        let scale = temperature / Float(max(counted, 1))
        if context.isRecording {
            // d(T² KL) / dz = T (softmax(z / T) - softmax(teacher / T)) / rows
            let soft = Kernels.softmax(inputs[0], factor: 1 / temperature)
            let target = Kernels.softmax(teacher, factor: 1 / temperature)
            var gradient = soft
            Kernels.add(target, times: -1, to: &gradient)
            if let rows {
                let factors = Tensor(rows.map { $0 ? scale : 0 }, shape: [count])
                gradient.scaleRows(factors.span)
                context.keep(gradient)
            } else {
                context.keep(Kernels.scale(gradient, by: scale))
            }
        }
        return Tensor(Float(total) * temperature * scale)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.scale(saved.tensors[0], by: upstream.scalar)]
    }
}

extension Tensor {
    fileprivate mutating func scaleRows(_ factors: Span<Float>) {
        guard factors.count > 0 else { return }
        let columns = count / factors.count
        var target = mutableSpan
        for row in 0..<factors.count {
            for index in row * columns..<(row + 1) * columns { target[index] *= factors[row] }
        }
    }
}
