import EspalierTensors

/// A sparsity that rises fast at first and slowly at the end:
/// s(t) = final + (initial - final) (1 - (t - begin) / (end - begin))³, t floored to begin + k * every.
///
/// Zhu and Gupta, "To prune, or not to prune", 2017.
public struct CubicSparsity: Sendable, Hashable {
    /// The sparsity up to `begin`.
    public var initial: Double
    /// The sparsity from `end` on.
    public var final: Double
    /// The first step that prunes.
    public var begin: Int
    /// The last step that prunes.
    public var end: Int
    /// Steps between two updates.
    public var every: Int

    /// A rise from `initial` to `final`.
    ///
    /// - Precondition: begin <= end and every >= 1.
    public init(initial: Double = 0, final: Double, begin: Int, end: Int, every: Int) {
        require(begin <= end && every >= 1, "sparsity rises from \(begin) to \(end)")
        self.initial = initial
        self.final = final
        self.begin = begin
        self.end = end
        self.every = every
    }

    /// The sparsity in force at a step.
    public func sparsity(at step: Int) -> Double {
        if step >= end { return final }
        if step <= begin { return initial }
        let floored = begin + (step - begin) / every * every
        let left = 1 - Double(floored - begin) / Double(end - begin)
        return final + (initial - final) * left * left * left
    }

    /// Whether the masks are chosen anew before a step. The last update is always at `end`.
    public func isUpdate(_ step: Int) -> Bool {
        step == end || (step >= begin && step < end && (step - begin) % every == 0)
    }
}
