/// A tensor of codes of up to 8 bits with their scales: a format, without arithmetic.
package struct QuantizedTensor: Sendable, Hashable {
    /// The extents, outermost first.
    package let shape: Shape
    /// Signed codes in row-major order.
    package let codes: [Int8]
    /// What the codes mean.
    package let parameters: QuantizationParameters

    /// A tensor of codes.
    ///
    /// - Precondition: there are as many codes as the shape holds, and as many scales as the scheme asks for.
    package init(shape: Shape, codes: [Int8], parameters: QuantizationParameters) {
        require(codes.count == shape.elementCount, "\(codes.count) codes for \(shape)")
        require(parameters.scheme.isSigned, "codes of a quantized tensor are signed")
        if case .channel(let axis) = parameters.scheme.granularity {
            require(
                shape[axis] == parameters.scales.count, "scales for another shape than \(shape)")
        }
        self.shape = shape
        self.codes = codes
        self.parameters = parameters
    }

    /// The values that the codes stand for.
    package var dequantized: Tensor {
        let (channels, inner) = channelLayout
        let values = codes.enumerated().map { index, code in
            let channel = index / inner % channels
            return Float(Int32(code) - parameters.zeroPoints[channel]) * parameters.scales[channel]
        }
        return Tensor(values, shape: shape)
    }

    /// Whether each index of the first axis has one scale, and code 0 is the value 0.
    package var isPerOutput: Bool {
        parameters.scheme.isPerOutput && parameters.zeroPoints.allSatisfy { $0 == 0 }
    }

    /// The scale of each index of the first axis.
    ///
    /// - Precondition: it has one: the tensor `isPerOutput`.
    package var scalesOfOutputs: [Float] {
        let outputs = shape.first ?? 1
        return parameters.scales.count == 1
            ? [Float](repeating: parameters.scales[0], count: outputs) : parameters.scales
    }

    // The number of scales, and the elements in a row that share one.
    private var channelLayout: (channels: Int, inner: Int) {
        guard case .channel(let axis) = parameters.scheme.granularity else {
            return (1, max(shape.elementCount, 1))
        }
        return (max(shape[axis], 1), max(shape.dropFirst(axis + 1).reduce(1, *), 1))
    }
}
