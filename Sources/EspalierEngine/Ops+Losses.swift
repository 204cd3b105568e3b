import EspalierGraph
import EspalierKernels
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

extension Op.CrossEntropy: Differentiable {
    // The forward computes dlogits / dloss as well: softmax is at hand there, and the loss of a row and its
    // gradient need the same weights.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let logits = inputs[0]
        let logProbabilities = Kernels.logSoftmax(logits)
        let classes = logits.shape[logits.shape.rank - 1]
        let rows = classes == 0 ? 0 : logits.count / classes
        var losses = [Float](repeating: 0, count: rows)
        // Row r's gradient is coefficient[r] * softmax - targets.
        var coefficients = [Float](repeating: 0, count: rows)
        var targets = Tensor.zeros(logits.shape)
        let divisor = fill(
            logProbabilities.span, rows: rows, classes: classes, losses: &losses,
            coefficients: &coefficients, targets: &targets)
        if context.isRecording {
            var gradient = Kernels.softmax(logits)
            gradient.combine(rows: rows, coefficients, minus: targets)
            context.keep(reduction == .mean ? Kernels.scale(gradient, by: 1 / divisor) : gradient)
        }
        guard reduction != .none else {
            return Tensor(losses, shape: Shape(logits.shape.dropLast()))
        }
        let total = losses.reduce(0.0) { $0 + Double($1) }
        return Tensor(Float(reduction == .mean ? total / Double(divisor) : total))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        var gradient = saved.tensors[0]
        if reduction != .none { return [Kernels.scale(gradient, by: upstream.scalar)] }
        gradient.scaleRows(upstream.span)
        return [gradient]
    }

    /// Fills in each row's loss and targets; returns what the mean divides by.
    private func fill(
        _ logProbabilities: Span<Float>, rows: Int, classes: Int, losses: inout [Float],
        coefficients: inout [Float], targets: inout Tensor
    ) -> Float {
        var divisor: Float = 0
        let weights = classWeights?.elements ?? [Float](repeating: 1, count: classes)
        let spread = smoothing / Float(max(classes, 1))
        var targetSpan = targets.mutableSpan
        for row in 0..<rows {
            let base = row * classes
            let label = label(row, classes: classes)
            if let label, Int32(label) == ignoredClass { continue }
            divisor += label.map { weights[$0] } ?? 1
            for index in 0..<classes {
                var share = spread * weights[index]
                switch target {
                case .classes: if index == label { share += (1 - smoothing) * weights[index] }
                case .probabilities(let tensor):
                    share += (1 - smoothing) * weights[index] * tensor.span[base + index]
                }
                targetSpan[base + index] = share
                coefficients[row] += share
                if share != 0 { losses[row] -= share * logProbabilities[base + index] }
            }
        }
        return divisor
    }

    private func label(_ row: Int, classes: Int) -> Int? {
        guard case .classes(let labels) = target else { return nil }
        let label = Int(labels.elements[row])
        require(
            labels.elements[row] == ignoredClass || (0..<classes).contains(label),
            "cross-entropy: class \(label) in row \(row) is not in 0..<\(classes)")
        return label
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
    /// Row r becomes factors[r] times itself, less the same row of `other`.
    fileprivate mutating func combine(rows: Int, _ factors: [Float], minus other: Tensor) {
        guard rows > 0 else { return }
        let columns = count / rows
        var target = mutableSpan
        let subtracted = other.span
        for row in 0..<rows {
            for index in row * columns..<(row + 1) * columns {
                target[index] = factors[row] * target[index] - subtracted[index]
            }
        }
    }

    fileprivate mutating func scaleRows(_ factors: Span<Float>) {
        guard factors.count > 0 else { return }
        let columns = count / factors.count
        var target = mutableSpan
        for row in 0..<factors.count {
            for index in row * columns..<(row + 1) * columns { target[index] *= factors[row] }
        }
    }
}
