public import EspalierEngine
public import EspalierTensors

/// A table with a row for each number. [...] -> [..., size]
public struct Embedding: Module {
    /// [count, size]
    public let weight: Parameter
    /// A row that gets no gradient from look-ups, such as that of padding.
    public let frozen: Int32?

    /// A table with rows drawn from `random`.
    public init(
        count: Int, size: Int, frozen: Int32? = nil,
        initializer: Initializer = .normal(deviation: 0.02), random: RandomStream
    ) {
        weight = Parameter(initializer.tensor([count, size], fanIn: size, random: random))
        self.frozen = frozen
    }

    /// The rows of these numbers.
    public func callAsFunction(_ ids: IndexTensor, on tape: Tape) -> Value {
        tape.parameter(weight).embedding(ids, frozen: frozen)
    }

    /// The first rows, as those of the places 0..<count. [count, size]
    ///
    /// - Precondition: the table has as many.
    public func first(_ count: Int, on tape: Tape) -> Value {
        require(count <= weight.shape[0], "\(count) places of a table of \(weight.shape)")
        return tape.parameter(weight).sliced(axis: 0, from: 0, to: count)
    }

    public func visit(_ visitor: inout some ModuleVisitor) { visitor.visit("weight", weight) }
}
