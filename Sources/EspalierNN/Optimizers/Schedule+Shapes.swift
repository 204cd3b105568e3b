extension Schedule {
    /// What happens after warm-up. Steps are counted from its end.
    public enum Shape: Sendable, Hashable {
        /// Stays at 1.
        case constant
        /// Half a cosine from 1 to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017).
        case cosine
        /// A line from 1 to 0.
        case linear
        /// Half a cosine from 1 to a share of the base rate.
        case cosineAnnealing(end: Double)
        /// As many half cosines from 1 to 0 as there are cycles, each from the beginning again ("SGDR").
        case cosineRestarts(cycles: Int)
        /// end + (1 - end) (1 - progress)^power
        case polynomial(power: Double, end: Double = 0)
        /// Times `factor` in every step.
        case exponential(factor: Double)
        /// Times `factor` after every so many steps.
        case step(every: Int, factor: Double)
        /// Times `factor` from each of these steps on.
        case milestones([Int], factor: Double)
        /// Up to the base rate and far down again, with momentum the other way round.
        case oneCycle(OneCycle)
    }

    /// A rise from 1 / divisor to 1, and a fall to 1 / (divisor * finalDivisor) at the last step.
    ///
    /// Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018;
    /// numbers of steps as PyTorch has them.
    public struct OneCycle: Sendable, Hashable {
        /// The share of all steps in which the factor rises.
        public var rise: Double
        /// Lines in place of half cosines.
        public var isLinear: Bool
        /// The factor begins at its inverse.
        public var divisor: Double
        /// How much lower than at the beginning the factor ends.
        public var finalDivisor: Double
        /// Whether the fall to the beginning's factor takes as long as the rise and the rest comes after it.
        public var isSymmetric: Bool
        /// Where the rate is highest.
        public var lowMomentum: Double
        /// Where the rate is lowest.
        public var highMomentum: Double

        /// A cycle.
        public init(
            rise: Double = 0.3, isLinear: Bool = false, divisor: Double = 25,
            finalDivisor: Double = 1e4, isSymmetric: Bool = false, lowMomentum: Double = 0.85,
            highMomentum: Double = 0.95
        ) {
            self.rise = rise
            self.isLinear = isLinear
            self.divisor = divisor
            self.finalDivisor = finalDivisor
            self.isSymmetric = isSymmetric
            self.lowMomentum = lowMomentum
            self.highMomentum = highMomentum
        }
    }
}
