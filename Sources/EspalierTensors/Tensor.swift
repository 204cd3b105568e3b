/// How a tensor's elements lie in memory.
public enum Layout: UInt8, Sendable, Hashable {
    /// Innermost axis contiguous.
    case rowMajor
}

/// A dense array of floats with a shape: a value, copied on write, contiguous.
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

    /// The number of elements.
    public var count: Int { shape.elementCount }

    /// A tensor whose elements all equal `value`.
    public init(repeating value: Float, shape: Shape) {
        unsafe self.init(shape) {
            // The C library fills with zeros at the speed of memory.
            if value.bitPattern == 0 {
                let bytes = unsafe UnsafeMutableRawBufferPointer(
                    start: $0, count: shape.elementCount * MemoryLayout<Float>.stride)
                unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
            } else {
                unsafe $0.update(repeating: value, count: shape.elementCount)
            }
        }
    }

    /// A tensor of zeros.
    public static func zeros(_ shape: Shape) -> Tensor { Tensor(repeating: 0, shape: shape) }

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

    /// The elements in row-major order.
    public var elements: [Float] {
        unsafe reading { unsafe Array(UnsafeBufferPointer(start: $0, count: count)) }
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
            shape.elementCount == count, "cannot reshape \(self.shape) to \(shape): sizes differ")
        var result = self
        result.shape = shape
        return result
    }

    /// Whether both have the same shape and the same bits, so that NaN equals itself and +0 is not -0.
    public func isIdentical(to other: Tensor) -> Bool {
        guard shape == other.shape else { return false }
        let (a, b) = (span, other.span)
        for index in a.indices where a[index].bitPattern != b[index].bitPattern { return false }
        return true
    }

    /// The first element that is NaN or infinite, as its index in row-major order.
    public var firstNonFinite: Int? {
        let elements = span
        for index in elements.indices where !elements[index].isFinite { return index }
        return nil
    }
}

extension Tensor: CustomStringConvertible {
    public var description: String {
        let shown = elements.prefix(8).map { "\($0)" }.joined(separator: ", ")
        return "Tensor\(shape)(\(shown)\(count > 8 ? ", ..." : ""))"
    }
}
