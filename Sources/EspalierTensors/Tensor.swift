/// An array of floats with a shape: a value, copied on write, contiguous.
///
/// Images are channels-last: `[N, H, W, C]`.
public struct Tensor: Sendable {
    package var storage: Storage
    /// The extents, outermost first.
    public private(set) var shape: Shape
    /// How the elements lie in memory.
    public let layout: Layout

    init(storage: Storage, shape: Shape, layout: Layout) {
        self.storage = storage
        self.shape = shape
        self.layout = layout
    }

    /// The number of elements held: those of the shape where the layout is row-major.
    public var count: Int { layout.elementCount(shape) }

    /// A tensor whose elements all equal `value`.
    public init(repeating value: Float, shape: Shape) {
        self.init(repeating: value, shape: shape, layout: .rowMajor)
    }

    private init(repeating value: Float, shape: Shape, layout: Layout) {
        let count = layout.elementCount(shape)
        unsafe self.init(shape, layout: layout) {
            // A rehearsed block has no memory, and this would give it some.
            if Rehearsal.isUnderWay { return }
            // The C library fills with zeros at the speed of memory.
            if value.bitPattern == 0 {
                let bytes = unsafe UnsafeMutableRawBufferPointer(
                    start: $0, count: count * MemoryLayout<Float>.stride)
                unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
            } else {
                unsafe $0.update(repeating: value, count: count)
            }
        }
    }

    /// A tensor of zeros.
    public static func zeros(_ shape: Shape) -> Tensor { Tensor(repeating: 0, shape: shape) }

    /// Elements that all equal `value`, in the shape and layout of another tensor.
    package init(repeating value: Float, like other: Tensor) {
        self.init(repeating: value, shape: other.shape, layout: other.layout)
    }

    /// Zeros in the shape and layout of another tensor.
    package static func zeros(like other: Tensor) -> Tensor { Tensor(repeating: 0, like: other) }

    /// A tensor with these elements in row-major order.
    ///
    /// - Precondition: there are as many as the shape holds.
    public init(_ elements: [Float], shape: Shape) {
        require(
            elements.count == shape.elementCount,
            "\(elements.count) elements do not fill a tensor of shape \(shape)")
        unsafe self.init(shape) { target in
            unsafe elements.withUnsafeBufferPointer {
                guard let source = $0.baseAddress else { return }
                unsafe target.update(from: source, count: $0.count)
            }
        }
    }

    /// A tensor of rank 0.
    public init(_ scalar: Float) { self.init(repeating: scalar, shape: []) }

    /// The elements in row-major order, which must be the layout.
    public var elements: [Float] {
        require(layout == .rowMajor, "the elements of a tensor in another layout")
        return unsafe reading { unsafe Array(UnsafeBufferPointer(start: $0, count: count)) }
    }

    /// The only element.
    ///
    /// - Precondition: there is exactly one.
    public var scalar: Float {
        require(count == 1, "a tensor of shape \(shape) is not a scalar")
        return span[0]
    }

    /// The same elements under another shape of the same size; no copy.
    public func reshaped(to shape: Shape) -> Tensor {
        require(
            shape.elementCount == self.shape.elementCount,
            "cannot reshape \(self.shape) to \(shape): sizes differ")
        require(
            layout == .rowMajor || layout == .tokenBlocked64 && shape.last == self.shape.last,
            "cannot reshape \(self.shape) to \(shape) in its layout")
        var result = self
        result.shape = shape
        return result
    }

    /// The elements held, in memory order, under another shape and layout that hold as many; no copy.
    package func viewed(_ shape: Shape, _ layout: Layout) -> Tensor {
        require(
            layout.elementCount(shape) == count,
            "\(count) elements as \(shape) in a layout of \(layout.elementCount(shape))")
        return Tensor(storage: storage, shape: shape, layout: layout)
    }

    /// Whether both have the same shape and the same bits, so that NaN equals itself and +0 is not -0.
    public func isIdentical(to other: Tensor) -> Bool {
        guard shape == other.shape, layout == other.layout else { return false }
        let (a, b) = (span, other.span)
        for index in a.indices where a[index].bitPattern != b[index].bitPattern { return false }
        return true
    }

    /// The first element that is NaN or infinite, as its index in memory.
    public var firstNonFinite: Int? {
        let elements = span
        for index in elements.indices where !elements[index].isFinite { return index }
        return nil
    }
}

extension Tensor: CustomStringConvertible {
    public var description: String {
        let shown = (0..<min(count, 8)).map { "\(span[$0])" }.joined(separator: ", ")
        return "Tensor\(shape)(\(shown)\(count > 8 ? ", ..." : ""))"
    }
}
