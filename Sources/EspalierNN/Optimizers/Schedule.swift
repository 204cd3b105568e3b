#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A learning rate over time: a pure function of the optimizer step.
public struct Schedule: Sendable, Hashable {
    /// What happens after warm-up.
    public enum Shape: String, Sendable, Hashable, CaseIterable {
        /// Stays at 1.
        case constant
        /// Half a cosine from 1 to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017).
        case cosine
        /// A line from 1 to 0.
        case linear
    }

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
        var position = Double(step)
        if let rewind, step >= rewind.from {
            let left = Double(max(total - rewind.from, 1))
            position =
                Double(rewind.to) + Double(step - rewind.from) * Double(total - rewind.to) / left
        }
        if position < Double(warmup) { return position / Double(warmup) }
        let progress = (position - Double(warmup)) / Double(max(total - warmup, 1))
        switch shape {
        case .constant: return 1
        case .cosine: return max(0, 0.5 * (1 + cos(.pi * progress)))
        case .linear: return max(0, 1 - progress)
        }
    }
}
