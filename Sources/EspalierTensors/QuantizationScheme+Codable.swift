// Written out flat; what later versions add has a default in earlier files.
extension QuantizationScheme: Codable {
    private enum Key: String, CodingKey {
        case bits, signed, symmetric, axis
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        let bits = try fields.decode(Int.self, forKey: .bits)
        let isSigned = try fields.decode(Bool.self, forKey: .signed)
        let isSymmetric = try fields.decode(Bool.self, forKey: .symmetric)
        let axis = try fields.decodeIfPresent(Int.self, forKey: .axis)
        guard (2...8).contains(bits), !isSymmetric || isSigned, axis ?? 0 >= 0 else {
            throw DecodingError.dataCorrupted(
                DecodingError.Context(
                    codingPath: decoder.codingPath, debugDescription: "an impossible scheme"))
        }
        self.init(
            bits: bits, isSigned: isSigned, isSymmetric: isSymmetric,
            granularity: axis.map { .channel(axis: $0) } ?? .tensor)
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        try fields.encode(bits, forKey: .bits)
        try fields.encode(isSigned, forKey: .signed)
        try fields.encode(isSymmetric, forKey: .symmetric)
        try fields.encodeIfPresent(axis, forKey: .axis)
    }
}
