#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A learning rate over time: a pure function of the optimizer step.
public struct Schedule: Sendable, Hashable {
    /// What happens after warm-up.
    public var shape: Shape
    /// Steps over which the factor rises from 0 to 1 in a line.
    public var warmup: Int
    /// Steps of the whole schedule.
    public var total: Int
    /// A step at which the schedule goes back to an earlier one, once, and runs from there to its end over the
    /// steps that are left: learning-rate rewinding (Renda, Frankle and Carbin, ICLR 2020).
    public var rewind: Rewind?

    /// At `from` the schedule is where it was at `to`.
    public struct Rewind: Sendable, Hashable {
        /// The step that begins anew.
        public var from: Int
        /// The step that it becomes.
        public var to: Int

        /// A jump back.
        public init(from: Int, to: Int) {
            self.from = from
            self.to = to
        }
    }

    /// A schedule over `total` steps.
    public init(_ shape: Shape, warmup: Int = 0, total: Int, rewind: Rewind? = nil) {
        self.shape = shape
        self.warmup = warmup
        self.total = total
        self.rewind = rewind
    }

    /// What the base rate is multiplied by in optimizer step `step`, counted from 0.
    public func factor(at step: Int) -> Double {
        let position = position(at: step)
        if position < Double(warmup) { return position / Double(warmup) }
        let length = Double(max(total - warmup, 1))
        let since = position - Double(warmup)
        let progress = since / length
        switch shape {
        case .constant: return 1
        case .cosine: return max(0, halfCosine(progress))
        case .linear: return max(0, 1 - progress)
        case .cosineAnnealing(let end): return end + (1 - end) * halfCosine(progress)
        case .cosineRestarts(let cycles):
            guard progress < 1 else { return 0 }
            return halfCosine((progress * Double(cycles)).truncatingRemainder(dividingBy: 1))
        case .polynomial(let power, let end):
            return end + (1 - end) * pow(1 - min(progress, 1), power)
        case .exponential(let factor): return pow(factor, since)
        case .step(let every, let factor):
            return pow(factor, (since / Double(max(every, 1))).rounded(.down))
        case .milestones(let steps, let factor):
            return pow(factor, Double(steps.count { Double($0) <= since }))
        case .oneCycle(let cycle): return cycle.values(at: since, of: length).factor
        }
    }

    /// The momentum in optimizer step `step` where the schedule says what it is: for Adam the decay of the first
    /// moment.
    public func momentum(at step: Int) -> Double? {
        guard case .oneCycle(let cycle) = shape else { return nil }
        let since = max(position(at: step) - Double(warmup), 0)
        return cycle.values(at: since, of: Double(max(total - warmup, 1))).momentum
    }

    /// The step that a step is after rewinding, perhaps between two.
    private func position(at step: Int) -> Double {
        guard let rewind, step >= rewind.from else { return Double(step) }
        let left = Double(max(total - rewind.from, 1))
        return Double(rewind.to) + Double(step - rewind.from) * Double(total - rewind.to) / left
    }
}

/// From 1 at 0 to 0 at 1.
private func halfCosine(_ progress: Double) -> Double { 0.5 * (1 + cos(.pi * progress)) }

extension Schedule.OneCycle {
    /// Factor and momentum `step` steps into a cycle of `total`: at the last step both are at their end.
    fileprivate func values(at step: Double, of total: Double) -> (
        factor: Double, momentum: Double
    ) {
        let low = 1 / divisor
        let end = low / finalDivisor
        var phases: [(end: Double, factors: (Double, Double), momenta: (Double, Double))] = [
            (rise * total - 1, (low, 1), (highMomentum, lowMomentum))
        ]
        if isSymmetric {
            phases.append((2 * rise * total - 2, (1, low), (lowMomentum, highMomentum)))
            phases.append((total - 1, (low, end), (highMomentum, highMomentum)))
        } else {
            phases.append((total - 1, (1, end), (lowMomentum, highMomentum)))
        }
        // A phase without a step, as in a very short cycle, is over at once.
        var start = 0.0
        for phase in phases {
            if step <= phase.end, phase.end > start {
                let progress = (step - start) / (phase.end - start)
                func between(_ ends: (Double, Double)) -> Double {
                    isLinear
                        ? ends.0 + (ends.1 - ends.0) * progress
                        : ends.1 + (ends.0 - ends.1) * halfCosine(progress)
                }
                return (between(phase.factors), between(phase.momenta))
            }
            start = max(start, phase.end)
        }
        return (end, highMomentum)
    }
}
