import CEspalierCodec
public import EspalierTensors

/// A tensor of an NNC stream: codes, and how they become numbers.
public struct NNCTensor: Sendable {
    /// What a tensor is in its unit.
    public enum Role: String, Sendable {
        /// A tensor of its own.
        case tensor
        /// A block's weight.
        case weight
        /// Factors of a block's weight, one an output.
        case scaling
        case bias
        case beta, gamma, mean, variance
        /// The factors of a decomposed weight.
        case left, right
    }

    /// An element type that a stream says its values had; a hint, for they are stored as integers or floats.
    public enum Format: Int, Sendable {
        case int32, float32, int2, int3, int4, int8, int16, int64, float16, float64
    }

    enum Content: Sendable {
        case integers
        case steps(density: Int)
        case raw([Float])
    }

    /// Its name.
    public let name: String
    /// Its extents, outermost first.
    public let shape: Shape
    /// What it is in its unit.
    public let role: Role
    /// The element type that the stream hints at.
    public let format: Format?
    /// The quantization parameter, nil where nothing was quantized.
    public var quantizationParameter: Int? { coded.qp }
    /// Whether dependent quantization made the codes.
    public let isDependent: Bool

    let coded: NNCCodedTensor
    let content: Content
    /// Which unit it stands in, and where it stands in a series of updates.
    let unit: Int
    let node: NNCDataHeader.Node?

    /// The start index of each context.
    package var startIndices: [UInt8] { coded.starts }
    /// Whether it has flags of rows that are skipped.
    package var skipsRows: Bool { coded.skips != nil }

    /// Whether the values are integers.
    public var isInteger: Bool {
        if case .integers = content { return true }
        return false
    }

    /// The integers of the stream: values, multiples of the step, or entries of the codebook less the one coded as 0.
    ///
    /// Empty where the floats themselves are stored.
    public var codes: IndexTensor {
        if case .raw = content { return IndexTensor([]) }
        return IndexTensor(coded.codes, shape: shape)
    }

    /// The size of a step; 1 of integers.
    public var step: Float {
        guard case .steps(let density) = content, let qp = coded.qp else { return 1 }
        return NNCStep.size(qp: qp, density: density)
    }

    /// The numbers: of integers their nearest floats.
    public var floats: Tensor {
        if case .raw(let values) = content { return Tensor(values, shape: shape) }
        let step = step
        return unsafe Tensor(shape) { target in
            unsafe coded.codes.withUnsafeBufferPointer { codes in
                let size = Int64(codes.count)
                if let codebook = coded.codebook {
                    // All are within the codebook: this is checked on reading.
                    unsafe codebook.entries.withUnsafeBufferPointer { entries in
                        _ = unsafe esp_nnc_dequantize_codebook(
                            codes.baseAddress, size, entries.baseAddress, Int32(entries.count),
                            Int32(codebook.zero), step, target)
                    }
                } else {
                    unsafe esp_nnc_dequantize(codes.baseAddress, size, step, target)
                }
            }
        }
    }
}

/// Steps of quantization (12.1).
public enum NNCStep {
    /// (k + qp mod k) * 2^(floor(qp / k) - density) with k = 2^density.
    public static func size(qp: Int, density: Int) -> Float {
        let k = 1 << density
        return Float(sign: .plus, exponent: (qp >> density) - density, significand: 1)
            * Float(k + qp & (k - 1))
    }
}
