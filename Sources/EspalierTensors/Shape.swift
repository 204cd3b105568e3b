/// The extents of a tensor, outermost axis first. At most eight axes of at most 2^31 - 1 elements.
///
/// Stored in line, so that a shape costs no allocation.
public struct Shape: Hashable, Sendable {
    private var extents = SIMD8<Int32>(repeating: 0)
    private var rankStorage: UInt8 = 0

    /// The largest number of axes.
    public static let maximumRank = 8

    /// A shape with these extents.
    ///
    /// - Precondition: there are at most eight, none negative nor above 2^31 - 1.
    public init(_ extents: some Sequence<Int>) {
        for extent in extents { append(extent) }
    }

    /// The number of elements: the product of the extents, 1 for rank 0.
    public var elementCount: Int {
        var product = 1
        for axis in 0..<count { product *= self[axis] }
        return product
    }

    /// Whether the number of elements and each extent are at most `limit`; computes no product that overflows.
    package func hasSize(upTo limit: Int) -> Bool {
        let (size, overflow) = reduce((1, false)) { part, extent in
            let (product, overflow) = part.0.multipliedReportingOverflow(by: extent)
            return (product, part.1 || overflow)
        }
        return !overflow && size <= limit && allSatisfy { $0 <= limit }
    }

    /// The number of axes.
    public var rank: Int { count }

    /// Adds an innermost axis.
    public mutating func append(_ extent: Int) {
        require(rankStorage < Shape.maximumRank, "a shape has at most 8 axes")
        require(extent >= 0 && extent <= Int32.max, "extent \(extent) is outside 0...2^31-1")
        extents[Int(rankStorage)] = Int32(truncatingIfNeeded: extent)
        rankStorage += 1
    }

    /// The axis that `axis` names when negative ones count from the end.
    ///
    /// - Precondition: `axis` is in `-rank..<rank`.
    public func normalized(axis: Int) -> Int {
        require(axis >= -count && axis < count, "axis \(axis) does not exist in \(self)")
        return axis < 0 ? axis + count : axis
    }

    /// Row-major distances between neighbours along each axis, in elements.
    package var strides: [Int] {
        var result = [Int](repeating: 1, count: count)
        for axis in stride(from: count - 2, through: 0, by: -1) {
            result[axis] = result[axis + 1] * self[axis + 1]
        }
        return result
    }
}

extension Shape: RandomAccessCollection {
    public var startIndex: Int { 0 }
    public var endIndex: Int { Int(rankStorage) }

    public subscript(axis: Int) -> Int {
        get {
            require(axis >= 0 && axis < count, "axis \(axis) does not exist in \(self)")
            return Int(extents[axis])
        }
        set {
            require(axis >= 0 && axis < count, "axis \(axis) does not exist in \(self)")
            require(newValue >= 0 && newValue <= Int32.max, "extent \(newValue) out of range")
            extents[axis] = Int32(truncatingIfNeeded: newValue)
        }
    }
}

extension Shape: ExpressibleByArrayLiteral, CustomStringConvertible {
    public init(arrayLiteral elements: Int...) { self.init(elements) }

    public var description: String { "[" + map(String.init).joined(separator: ", ") + "]" }
}
