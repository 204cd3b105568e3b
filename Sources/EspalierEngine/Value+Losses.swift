package import EspalierGraph
public import EspalierTensors

// Losses that are made of other ops: their gradients follow.
extension Value {
    /// The mean, the sum, or all of the losses that this value holds.
    package func reduced(_ reduction: Reduction) -> Value {
        switch reduction {
        case .mean: mean()
        case .sum: sum()
        case .none: self
        }
    }

    /// (x - target)² of each element. Shapes are equal.
    package func squaredError(_ target: Value, _ reduction: Reduction) -> Value {
        difference(from: target).squared().reduced(reduction)
    }

    /// The mean of (x - target)². Shapes are equal; hidden states of a teacher are such targets.
    public func meanSquaredError(_ target: Value) -> Value { squaredError(target, .mean) }

    /// |x - target| of each element, with gradient 0 where they are equal.
    package func absoluteError(_ target: Value, _ reduction: Reduction) -> Value {
        difference(from: target).abs().reduced(reduction)
    }

    /// The mean of |x - target|. Shapes are equal.
    public func meanAbsoluteError(_ target: Value) -> Value { absoluteError(target, .mean) }

    /// d² / 2 where |d| is at most delta, else delta (|d| - delta / 2), d = x - target.
    ///
    /// Huber, "Robust estimation of a location parameter", 1964.
    package func huber(_ target: Value, delta: Float, _ reduction: Reduction) -> Value {
        require(delta > 0, "a Huber loss with delta \(delta)")
        let distance = difference(from: target).abs()
        // c (|d| - c / 2) with c = min(|d|, delta): both branches at once, and the slope is c on both sides of the bound.
        let inner = distance.clamped(high: delta)
        return (inner * (distance - inner.scaled(by: 0.5))).reduced(reduction)
    }

    /// The mean Huber loss. Shapes are equal.
    public func huber(_ target: Value, delta: Float = 1) -> Value {
        huber(target, delta: delta, .mean)
    }

    /// The mean Huber loss over beta: slope 1 outside. Girshick, "Fast R-CNN", ICCV 2015.
    public func smoothAbsoluteError(_ target: Value, beta: Float = 1) -> Value {
        smoothAbsoluteError(target, beta: beta, .mean)
    }

    package func smoothAbsoluteError(
        _ target: Value, beta: Float, _ reduction: Reduction
    ) -> Value {
        huber(target, delta: beta, reduction).scaled(by: 1 / beta)
    }

    /// Cross-entropy of logits of independent yes-or-no questions against probabilities of the same shape.
    ///
    /// (1 - t) x + (1 + (p - 1) t) log(1 + exp(-x)), which is finite for every logit, times `weight`. `positiveWeight` is p,
    /// one for each entry of the last axis; `weight` can be broadcast to the logits.
    package func binaryCrossEntropy(
        _ target: Tensor, weight: Tensor? = nil, positiveWeight: Tensor? = nil,
        _ reduction: Reduction
    ) -> Value {
        require(target.shape == shape, "targets \(target.shape) of logits \(shape)")
        let target = tape.input(target)
        let one = tape.input(Tensor(1))
        var soft = (-self).softplus()
        if let positiveWeight {
            soft = soft * (one + (tape.input(positiveWeight) - one) * target)
        }
        var losses = (one - target) * self + soft
        if let weight { losses = losses * tape.input(weight) }
        return losses.reduced(reduction)
    }

    /// Mean cross-entropy of logits of independent yes-or-no questions against probabilities of the same shape.
    public func binaryCrossEntropy(_ target: Tensor) -> Value {
        binaryCrossEntropy(target, .mean)
    }

    /// -log p of the right classes. The value holds log-probabilities. [..., C] -> [] or [...]
    ///
    /// The mean divides by the sum of the weights of the rows that count; it is NaN where none does.
    package func negativeLogLikelihood(
        _ classes: IndexTensor, classWeights: Tensor? = nil, ignoredClass: Int32? = nil,
        _ reduction: Reduction
    ) -> Value {
        let count = shape.last ?? 0
        require(
            shape.rank > 0 && classes.shape == Shape(shape.dropLast()),
            "classes \(classes.shape) of log-probabilities \(shape)")
        require(
            classWeights.map { $0.shape == [count] } ?? true, "class weights of \(count) classes")
        let known = classWeights?.elements
        let weights = classes.elements.map { index -> Float in
            if index == ignoredClass { return 0 }
            require(index >= 0 && index < count, "class \(index) of \(count)")
            return known?[Int(index)] ?? 1
        }
        let safe = classes.elements.map { $0 == ignoredClass ? 0 : $0 }
        let picked = gathered(axis: -1, IndexTensor(safe, shape: Shape(classes.shape + [1])))
            .reshaped(to: Array(classes.shape))
        let factors = Tensor(weights, shape: classes.shape)
        // A row that does not count must not bring in a logarithm of 0.
        let ignored = Tensor(
            classes.elements.map { $0 == ignoredClass ? 1 : 0 }, shape: classes.shape)
        let losses = -(picked.filled(with: 0, where: tape.input(ignored)) * tape.input(factors))
        guard reduction == .mean else { return losses.reduced(reduction) }
        let total = weights.reduce(0.0) { $0 + Double($1) }
        return losses.sum().scaled(by: Float(1 / total))
    }

    /// Mean of -log p of the right classes. The value holds log-probabilities. [..., C] -> []
    public func negativeLogLikelihood(_ classes: IndexTensor) -> Value {
        negativeLogLikelihood(classes, .mean)
    }

    /// The cosine of the angle between vectors in the last axis; 0 beside a vector of zeros. [..., D], [..., D] -> [...]
    public func cosineSimilarity(_ other: Value) -> Value {
        // As PyTorch has it: 1e-12 is added to both squares.
        let tiny = tape.input(Tensor(1e-12))
        func square(_ x: Value) -> Value { x.squared().sum(axes: [-1]) + tiny }
        return (self * other).sum(axes: [-1]) / (square(self).sqrt() * square(other).sqrt())
    }

    /// 1 - cos for pairs of label 1, max(0, cos - margin) for those of label -1. [N, D], [N, D] -> [] or [N]
    package func cosineEmbedding(
        _ other: Value, labels: Tensor, margin: Float, _ reduction: Reduction
    ) -> Value {
        require(
            shape.rank > 0 && labels.shape == Shape(shape.dropLast()),
            "labels \(labels.shape) of pairs \(shape)")
        let cosine = cosineSimilarity(other)
        let same = Tensor(labels.elements.map { $0 > 0 ? 1 : 0 }, shape: labels.shape)
        let one = tape.input(Tensor(1))
        return Value.select(
            tape.input(same), one - cosine, (cosine - tape.input(Tensor(margin))).relu()
        ).reduced(reduction)
    }

    /// The mean of 1 - cos over vectors in the last axis, as for hidden states of a teacher. [..., D], [..., D] -> []
    public func cosineDistance(_ target: Value) -> Value {
        (tape.input(Tensor(1)) - cosineSimilarity(target)).mean()
    }

    /// x - target of equal shapes: broadcasting here is nearly always a mistake.
    private func difference(from target: Value) -> Value {
        require(shape == target.shape, "a loss of \(shape) against \(target.shape)")
        return self - target
    }
}
