package import EspalierTensors

/// The frozen numbers of the vocabulary: what files call ops and their attributes.
///
/// A number, once given, is never given to something else; the order of the cases means nothing.
package enum Opset {
    /// Raised when an op or an attribute is added to a version that was released. A file says which version it needs.
    package static let version: UInt16 = 1

    /// An attribute's tag with its value.
    package struct Attribute: Sendable, Hashable {
        package enum Value: Sendable, Hashable {
            case integers([Int64])
            case floats([Float])
        }

        package let tag: UInt16
        package let value: Value

        package init(_ tag: UInt16, _ integers: [Int]) {
            self.init(tag: tag, value: .integers(integers.map(Int64.init)))
        }

        package init(tag: UInt16, value: Value) {
            self.tag = tag
            self.value = value
        }
    }

    /// A line of the table.
    package struct Entry: Sendable {
        package let number: UInt16
        /// Of the op in messages and golden files.
        package let name: String
        /// Of the ONNX operator that does the same, where there is one.
        package let onnx: String?
        /// Whether networks that are run contain it; others are for training.
        package let isForInference: Bool
        /// How many operands it may have.
        package let operands: ClosedRange<Int>
    }
}

extension Op {
    /// This op's line of the table.
    package var entry: Opset.Entry {
        func entry(
            _ number: UInt16, _ name: String, _ onnx: String? = nil, _ operands: ClosedRange<Int>,
            isForInference: Bool = true
        ) -> Opset.Entry {
            Opset.Entry(
                number: number, name: name, onnx: onnx, isForInference: isForInference,
                operands: operands)
        }
        return switch self {
        case .add: entry(1, "add", "Add", 2...2)
        case .scale: entry(2, "scale", "Mul", 1...1)
        case .relu: entry(3, "relu", "Relu", 1...1)
        case .linear(let op):
            entry(4, "linear", "Gemm", 2...3, isForInference: op.activation == nil)
        case .conv2D: entry(5, "conv2d", "Conv", 2...3)
        case .maxPool2D: entry(6, "max_pool2d", "MaxPool", 1...1)
        case .averagePool2D: entry(7, "avg_pool2d", "AveragePool", 1...1)
        case .softmax: entry(8, "softmax", "Softmax", 1...1)
        case .reshape: entry(9, "reshape", "Reshape", 1...1)
        case .fakeQuantize: entry(10, "fake_quant", "QuantizeLinear", 1...1)
        case .batchNorm:
            entry(11, "batch_norm", "BatchNormalization", 1...3, isForInference: false)
        case .mask: entry(12, "mask", nil, 1...1, isForInference: false)
        case .dropout: entry(13, "dropout", "Dropout", 1...1, isForInference: false)
        case .crossEntropy: entry(14, "cross_entropy", nil, 1...1, isForInference: false)
        case .distillation: entry(15, "distillation", nil, 1...1, isForInference: false)
        case .unary(let op): entry(16, op.function.name, op.function.onnx, 1...1)
        case .binary(let op): entry(17, op.function.name, op.function.onnx, 2...2)
        case .select: entry(18, "where", "Where", 3...3)
        case .fill: entry(19, "masked_fill", nil, 2...2)
        case .reduce(let op): entry(20, op.kind.name, op.kind.onnx, 1...1)
        case .cumulativeSum: entry(21, "cumsum", "CumSum", 1...1)
        case .permute: entry(22, "permute", "Transpose", 1...1)
        case .slice: entry(23, "slice", "Slice", 1...1)
        case .concatenate: entry(24, "concat", "Concat", 1...1_024)
        case .pad: entry(25, "pad", "Pad", 1...1)
        case .expand: entry(26, "expand", "Expand", 1...1)
        case .triangle: entry(27, "triangle", "Trilu", 1...1)
        case .matMul: entry(28, "matmul", "MatMul", 2...2)
        case .layerNorm: entry(29, "layer_norm", "LayerNormalization", 1...3)
        case .gather: entry(30, "gather", "GatherElements", 1...1, isForInference: false)
        case .take: entry(31, "take", "Gather", 1...1, isForInference: false)
        case .scatterAdd:
            entry(32, "scatter_add", "ScatterElements", 2...2, isForInference: false)
        case .attention: entry(33, "attention", "Attention", 3...4)
        case .residualNorm: entry(34, "residual_norm", nil, 2...4, isForInference: false)
        case .resample: entry(40, "resample", "Resize", 1...1)
        }
    }

    /// The attributes with their frozen tags. Ops that are not for inference have none here.
    package var attributes: [Opset.Attribute] {
        switch self {
        case .add, .relu, .linear, .mask, .dropout, .crossEntropy, .distillation, .select,
            .gather, .take, .scatterAdd, .residualNorm:
            []
        case .unary(let op): op.attributes
        case .binary(let op): [Opset.Attribute(1, [op.function.number])]
        case .fill(let op): [Opset.Attribute(tag: 1, value: .floats([op.value]))]
        case .reduce(let op): op.attributes
        case .cumulativeSum(let op): [Opset.Attribute(1, [op.axis])]
        case .permute(let op): [Opset.Attribute(1, op.order)]
        case .slice(let op):
            [Opset.Attribute(1, op.parts.flatMap { [$0.axis, $0.start, $0.end, $0.step] })]
        case .concatenate(let op): [Opset.Attribute(1, [op.axis])]
        case .pad(let op): op.attributes
        case .expand(let op): [Opset.Attribute(1, op.extents)]
        case .triangle(let op): [Opset.Attribute(1, [op.diagonal, op.isLower ? 1 : 0])]
        case .matMul(let op):
            [Opset.Attribute(1, [op.transposesA ? 1 : 0, op.transposesB ? 1 : 0])]
        case .layerNorm(let op):
            [
                Opset.Attribute(1, [op.axisCount, op.isCentred ? 1 : 0]),
                Opset.Attribute(tag: 2, value: .floats([op.epsilon])),
            ]
        case .attention(let op): op.attributes
        case .resample(let op): op.attributes
        case .scale(let op): [Opset.Attribute(tag: 1, value: .floats([op.factor]))]
        case .conv2D(let op):
            [
                Opset.Attribute(1, [op.stride.height, op.stride.width]),
                Opset.Attribute(2, op.padding.extents),
                Opset.Attribute(3, [op.dilation.height, op.dilation.width]),
                Opset.Attribute(4, [op.groups]),
            ]
        case .maxPool2D(let op): op.window.attributes
        case .averagePool2D(let op):
            op.window.attributes + [Opset.Attribute(6, [op.countsPadding ? 1 : 0])]
        case .softmax(let op): [Opset.Attribute(1, [op.axis, op.logarithm ? 1 : 0])]
        case .reshape(let op): [Opset.Attribute(1, op.extents)]
        case .fakeQuantize(let op): op.parameters.attributes
        case .batchNorm(let op):
            [Opset.Attribute(tag: 1, value: .floats([op.epsilon]))]
                + (op.moments.map {
                    [
                        Opset.Attribute(tag: 2, value: .floats($0.mean.elements)),
                        Opset.Attribute(tag: 3, value: .floats($0.variance.elements)),
                    ]
                } ?? [])
        }
    }

    /// The op of a number with its attributes.
    ///
    /// - Throws: `OpsetError` where this version does not know the number, the op is not for inference, or an attribute
    ///   is missing, unknown or impossible.
    package init(number: UInt16, attributes: [Opset.Attribute]) throws(OpsetError) {
        var fields = AttributeFields(attributes)
        switch number {
        case 1: self = .add(Add())
        case 2: self = .scale(Scale(factor: try fields.floats(1, count: 1...1)[0]))
        case 3: self = .relu(ReLU())
        case 4: self = .linear(Linear())
        case 5:
            let stride = try fields.integers(1, count: 2...2, in: 1...fields.largest)
            let padding = try fields.integers(2, count: 4...4, in: 0...fields.largest)
            let dilation = try fields.integers(3, count: 2...2, in: 1...fields.largest)
            let groups = try fields.integers(4, count: 1...1, in: 1...fields.largest)
            self = .conv2D(
                Conv2D(
                    stride: Size2D(stride[0], stride[1]), padding: Padding2D(padding),
                    dilation: Size2D(dilation[0], dilation[1]), groups: groups[0]))
        case 6: self = .maxPool2D(MaxPool2D(window: try Window2D(&fields)))
        case 7:
            let window = try Window2D(&fields)
            let counts = try fields.integers(6, count: 1...1, in: 0...1)[0] == 1
            self = .averagePool2D(AveragePool2D(window: window, countsPadding: counts))
        case 8:
            let values = try fields.integers(1, count: 2...2, in: -8...7)
            self = .softmax(Softmax(axis: values[0], logarithm: values[1] != 0))
        case 9:
            self = .reshape(
                Reshape(to: try fields.integers(1, count: 0...8, in: -1...fields.largest)))
        case 10: self = .fakeQuantize(FakeQuantize(parameters: try QuantizationParameters(&fields)))
        case 11...15, 30...32, 34:
            throw OpsetError("op \(number) is for training and cannot stand in a file")
        case 33: self = .attention(try Attention(&fields))
        case 40: self = .resample(try Resample(&fields))
        case 16...29: self = try Op.decoded(number, &fields)
        default:
            throw OpsetError(
                "op \(number) is not known to opset \(Opset.version); the file needs a newer program"
            )
        }
        try fields.finish()
    }
}

/// An op in a file that this version cannot read.
package struct OpsetError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Attributes being read: each once, and all of them.
struct AttributeFields {
    /// Of any extent in a file: sums and products of two stay within 64 bits.
    let largest = 1 << 24
    private var left: [UInt16: Opset.Attribute.Value]
    private let isUnique: Bool

    init(_ attributes: [Opset.Attribute]) {
        left = Dictionary(attributes.map { ($0.tag, $0.value) }) { first, _ in first }
        isUnique = left.count == attributes.count
    }

    mutating func integers(
        _ tag: UInt16, count: ClosedRange<Int>, in range: ClosedRange<Int>
    ) throws(OpsetError) -> [Int] {
        guard case .integers(let values)? = left.removeValue(forKey: tag),
            count.contains(values.count),
            values.allSatisfy({ range.contains(Int(clamping: $0)) })
        else { throw OpsetError("attribute \(tag) is missing or out of range") }
        return values.map { Int($0) }
    }

    mutating func floats(
        _ tag: UInt16, count: ClosedRange<Int>, mayBeInfinite: Bool = false
    ) throws(OpsetError) -> [Float] {
        guard case .floats(let values)? = left.removeValue(forKey: tag),
            count.contains(values.count),
            values.allSatisfy({ $0.isFinite || (mayBeInfinite && !$0.isNaN) })
        else { throw OpsetError("attribute \(tag) is missing or not finite") }
        return values
    }

    func finish() throws(OpsetError) {
        guard isUnique, left.isEmpty else { throw OpsetError("attributes that it does not have") }
    }
}

extension Padding2D {
    fileprivate var extents: [Int] { [top, left, bottom, right] }

    fileprivate init(_ extents: [Int]) {
        self.init(top: extents[0], left: extents[1], bottom: extents[2], right: extents[3])
    }
}

extension Window2D {
    fileprivate var attributes: [Opset.Attribute] {
        [
            Opset.Attribute(1, [stride.height, stride.width]),
            Opset.Attribute(2, padding.extents),
            Opset.Attribute(3, [dilation.height, dilation.width]),
            Opset.Attribute(4, [kernel.height, kernel.width]),
            Opset.Attribute(5, [roundsUp ? 1 : 0]),
        ]
    }

    fileprivate init(_ fields: inout AttributeFields) throws(OpsetError) {
        let stride = try fields.integers(1, count: 2...2, in: 1...fields.largest)
        let padding = try fields.integers(2, count: 4...4, in: 0...fields.largest)
        let dilation = try fields.integers(3, count: 2...2, in: 1...fields.largest)
        let kernel = try fields.integers(4, count: 2...2, in: 1...fields.largest)
        let roundsUp = try fields.integers(5, count: 1...1, in: 0...1)
        self.init(
            kernel: Size2D(kernel[0], kernel[1]), stride: Size2D(stride[0], stride[1]),
            padding: Padding2D(padding), dilation: Size2D(dilation[0], dilation[1]),
            roundsUp: roundsUp[0] == 1)
        // Every window must touch the image, or there is no largest element.
        guard padding[0] < kernel[0] * dilation[0], padding[2] < kernel[0] * dilation[0],
            padding[1] < kernel[1] * dilation[1], padding[3] < kernel[1] * dilation[1]
        else { throw OpsetError("a padding as large as its window") }
    }
}

extension QuantizationParameters {
    /// Frozen: tag 1 bits, signed, symmetric, axis (-1 for one scale); tag 2 scales; tag 3 zero points.
    package var attributes: [Opset.Attribute] {
        var axis = -1
        if case .channel(let own) = scheme.granularity { axis = own }
        return [
            Opset.Attribute(
                1, [scheme.bits, scheme.isSigned ? 1 : 0, scheme.isSymmetric ? 1 : 0, axis]),
            Opset.Attribute(tag: 2, value: .floats(scales)),
            Opset.Attribute(3, zeroPoints.map { Int($0) }),
        ]
    }

    /// Reads the attributes back.
    ///
    /// - Throws: `OpsetError` where they are missing or impossible.
    package init(_ attributes: [Opset.Attribute]) throws(OpsetError) {
        var fields = AttributeFields(attributes)
        try self.init(&fields)
        try fields.finish()
    }

    init(_ fields: inout AttributeFields) throws(OpsetError) {
        let scheme = try fields.integers(1, count: 4...4, in: -1...8)
        let scales = try fields.floats(2, count: 1...fields.largest)
        let zeroPoints = try fields.integers(3, count: scales.count...scales.count, in: -128...255)
        let (bits, isSigned, isSymmetric) = (scheme[0], scheme[1] == 1, scheme[2] == 1)
        guard (2...8).contains(bits), (0...1).contains(scheme[1]), (0...1).contains(scheme[2]),
            isSigned || !isSymmetric, scheme[3] >= 0 || scales.count == 1,
            scales.allSatisfy({ $0 > 0 })
        else { throw OpsetError("impossible quantization \(scheme), \(scales.count) scales") }
        let read = QuantizationScheme(
            bits: bits, isSigned: isSigned, isSymmetric: isSymmetric,
            granularity: scheme[3] < 0 ? .tensor : .channel(axis: scheme[3]))
        let codes = read.codes
        guard
            zeroPoints.allSatisfy({
                isSymmetric ? $0 == 0 : codes.contains(Int32(truncatingIfNeeded: $0))
            })
        else { throw OpsetError("a zero point that is no code") }
        self.init(scheme: read, scales: scales, zeroPoints: zeroPoints.map { Int32($0) })
    }
}
