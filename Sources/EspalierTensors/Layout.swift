/// How a tensor's elements lie in memory.
///
/// Everything reads `rowMajor`; the others are what sparse products read and write. The tape inserts conversions, so that
/// they are met nowhere else.
public enum Layout: Sendable, Equatable {
    /// Innermost axis contiguous.
    case rowMajor
    /// A matrix of tokens x columns, the columns being the last axis, as [tokens / 64][columns][64 tokens].
    ///
    /// What the last block holds beyond the last token is finite in a value and 0 in a gradient.
    case tokenBlocked64
    /// Only the live entries of a weight under a locked mask, or of a gradient that is zero elsewhere, in row-major
    /// order.
    case live(any LiveWeights)

    public static func == (a: Layout, b: Layout) -> Bool {
        switch (a, b) {
        case (.rowMajor, .rowMajor), (.tokenBlocked64, .tokenBlocked64): true
        case (.live(let a), .live(let b)): a === b
        default: false
        }
    }

    /// How many elements a tensor of that shape holds.
    package func elementCount(_ shape: Shape) -> Int {
        switch self {
        case .rowMajor: shape.elementCount
        case .tokenBlocked64: Layout.blocks(shape) * 64 * (shape.last ?? 1)
        case .live(let entries): entries.count
        }
    }

    /// The blocks of 64 tokens that hold a shape's rows.
    package static func blocks(_ shape: Shape) -> Int {
        (shape.dropLast().reduce(1, *) + 63) / 64
    }

    /// Whether a shape's rows fill their blocks to the last.
    package static func fillsBlocks(_ shape: Shape) -> Bool {
        shape.dropLast().reduce(1, *) % 64 == 0
    }
}

/// Where the live entries of a weight under a locked mask are.
public protocol LiveWeights: AnyObject, Sendable {
    /// The shape of the weight.
    var shape: Shape { get }
    /// How many live.
    var count: Int { get }
    /// The live entries of a weight in row-major order, as a tensor in this layout.
    func gathered(_ dense: Tensor) -> Tensor
    /// The weight with zeros between its live entries, in row-major order.
    func scattered(_ live: Tensor) -> Tensor
}
