/// A dense array of integers with a shape, such as class labels or token ids: data, no arithmetic.
public struct IndexTensor: Sendable, Hashable {
    /// The elements in row-major order.
    public let elements: [Int32]
    /// The extents, outermost first.
    public let shape: Shape

    /// A tensor with these elements in row-major order.
    ///
    /// - Precondition: there are as many as the shape holds.
    public init(_ elements: [Int32], shape: Shape) {
        require(
            elements.count == shape.elementCount,
            "\(elements.count) elements do not fill a tensor of shape \(shape)")
        self.elements = elements
        self.shape = shape
    }

    /// A vector.
    public init(_ elements: [Int32]) { self.init(elements, shape: [elements.count]) }

    /// The number of elements.
    public var count: Int { elements.count }

    /// Some entries of the first axis, side by side.
    public func rows(_ range: Range<Int>) -> IndexTensor {
        let size = shape.dropFirst().reduce(1, *)
        return IndexTensor(
            Array(elements[range.lowerBound * size..<range.upperBound * size]),
            shape: Shape([range.count] + shape.dropFirst()))
    }
}
