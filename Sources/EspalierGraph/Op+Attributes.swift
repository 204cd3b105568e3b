import EspalierTensors

// Frozen attribute tags of the ops from number 16 on: written beside how they are read.
extension Op.Unary {
    /// Tag 1 the function's number; tag 2 its parameters.
    var attributes: [Opset.Attribute] {
        [
            Opset.Attribute(1, [function.number]),
            Opset.Attribute(tag: 2, value: .floats(function.parameters)),
        ]
    }

    fileprivate init(_ fields: inout AttributeFields) throws(OpsetError) {
        let code = try fields.integers(1, count: 1...1, in: 0...fields.largest)[0]
        let parameters = try fields.floats(2, count: 0...2, mayBeInfinite: true)
        guard let function = Function(number: code, parameters: parameters) else {
            throw OpsetError("function \(code) with \(parameters.count) parameters is not known")
        }
        self.init(function)
    }
}

extension Op.Reduce {
    /// Tag 1 the kind's number, whether the axes stay, whether all are meant; tag 2 the axes; tag 3 the correction.
    var attributes: [Opset.Attribute] {
        [
            Opset.Attribute(1, [kind.number, keepsAxes ? 1 : 0, axes == nil ? 1 : 0]),
            Opset.Attribute(2, axes ?? []),
            Opset.Attribute(tag: 3, value: .floats([correction])),
        ]
    }

    fileprivate init(_ fields: inout AttributeFields) throws(OpsetError) {
        let head = try fields.integers(1, count: 3...3, in: 0...255)
        let axes = try fields.integers(2, count: 0...Shape.maximumRank, in: -8...7)
        let correction = try fields.floats(3, count: 1...1)[0]
        guard let kind = Kind(number: head[0]), head[1] <= 1, head[2] <= 1,
            head[2] == 0 || axes.isEmpty
        else { throw OpsetError("reduction \(head) is not known") }
        self.init(
            kind, axes: head[2] == 1 ? nil : axes, keepsAxes: head[1] == 1, correction: correction)
    }
}

extension Op.Attention {
    /// Tag 1 the heads and whether it is causal; tag 2 the scale.
    var attributes: [Opset.Attribute] {
        [
            Opset.Attribute(1, [heads, isCausal ? 1 : 0]),
            Opset.Attribute(tag: 2, value: .floats([scale])),
        ]
    }

    init(_ fields: inout AttributeFields) throws(OpsetError) {
        let head = try fields.integers(1, count: 2...2, in: 0...fields.largest)
        let scale = try fields.floats(2, count: 1...1)[0]
        guard head[0] > 0, head[1] <= 1 else { throw OpsetError("an attention of \(head)") }
        self.init(heads: head[0], isCausal: head[1] == 1, scale: scale)
    }
}

extension Op.Slice {
    fileprivate init(_ fields: inout AttributeFields) throws(OpsetError) {
        let values = try fields.integers(
            1, count: 0...4 * Shape.maximumRank, in: Int(Int32.min)...Int(Int32.max))
        guard values.count % 4 == 0 else { throw OpsetError("a slice of \(values)") }
        self.init(
            stride(from: 0, to: values.count, by: 4).map {
                Part(
                    axis: values[$0], start: values[$0 + 1], end: values[$0 + 2],
                    step: values[$0 + 3])
            })
    }
}

extension Op.Pad {
    /// Tag 1 the mode: 0 constant, 1 reflect, 2 replicate; tags 2 and 3 before and after; tag 4 the constant.
    var attributes: [Opset.Attribute] {
        let (code, value): (Int, Float) =
            switch mode {
            case .constant(let value): (0, value)
            case .reflect: (1, 0)
            case .replicate: (2, 0)
            }
        return [
            Opset.Attribute(1, [code]), Opset.Attribute(2, before), Opset.Attribute(3, after),
            Opset.Attribute(tag: 4, value: .floats([value])),
        ]
    }

    fileprivate init(_ fields: inout AttributeFields) throws(OpsetError) {
        let code = try fields.integers(1, count: 1...1, in: 0...2)[0]
        let range = -fields.largest...fields.largest
        let before = try fields.integers(2, count: 0...Shape.maximumRank, in: range)
        let after = try fields.integers(3, count: 0...Shape.maximumRank, in: range)
        let value = try fields.floats(4, count: 1...1, mayBeInfinite: true)[0]
        guard code == 0 || value == 0 else { throw OpsetError("a padding of mode \(code)") }
        let mode: Mode = code == 0 ? .constant(value) : code == 1 ? .reflect : .replicate
        self.init(mode, before: before, after: after)
    }
}

extension Op {
    /// The op of a number from 16 on.
    static func decoded(
        _ number: UInt16, _ fields: inout AttributeFields
    ) throws(OpsetError) -> Op {
        let axes = -Shape.maximumRank...Shape.maximumRank - 1
        switch number {
        case 16: return .unary(try Unary(&fields))
        case 17:
            let code = try fields.integers(1, count: 1...1, in: 0...fields.largest)[0]
            guard let function = Binary.Function(number: code) else {
                throw OpsetError("function \(code) of two operands is not known")
            }
            return .binary(Binary(function))
        case 18: return .select(Select())
        case 19:
            return .fill(Fill(value: try fields.floats(1, count: 1...1, mayBeInfinite: true)[0]))
        case 20: return .reduce(try Reduce(&fields))
        case 21:
            return .cumulativeSum(
                CumulativeSum(axis: try fields.integers(1, count: 1...1, in: axes)[0]))
        case 22:
            return .permute(
                Permute(try fields.integers(1, count: 0...Shape.maximumRank, in: axes)))
        case 23: return .slice(try Slice(&fields))
        case 24:
            return .concatenate(
                Concatenate(axis: try fields.integers(1, count: 1...1, in: axes)[0]))
        case 25: return .pad(try Pad(&fields))
        case 26:
            return .expand(
                Expand(
                    to: try fields.integers(
                        1, count: 0...Shape.maximumRank, in: -1...fields.largest)))
        case 27:
            let values = try fields.integers(1, count: 2...2, in: -fields.largest...fields.largest)
            guard (0...1).contains(values[1]) else { throw OpsetError("a triangle of \(values)") }
            return .triangle(Triangle(diagonal: values[0], isLower: values[1] == 1))
        case 28:
            let values = try fields.integers(1, count: 2...2, in: 0...1)
            return .matMul(MatMul(transposesA: values[0] == 1, transposesB: values[1] == 1))
        default:
            let values = try fields.integers(1, count: 2...2, in: 0...Shape.maximumRank)
            let epsilon = try fields.floats(2, count: 1...1)[0]
            guard values[1] <= 1 else { throw OpsetError("a layer norm of \(values)") }
            return .layerNorm(
                LayerNorm(axisCount: values[0], epsilon: epsilon, isCentred: values[1] == 1))
        }
    }
}
