import EspalierGraph

/// Numbers of variable length: seven bits a byte, lowest first, the highest bit set but in the last (LEB128).
extension ByteReader {
    /// The next number; nil where it does not end, does not fit, or is longer than it must be.
    mutating func varint() -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: 0, to: 64, by: 7) {
            guard let byte = number(UInt8.self) else { return nil }
            let part = UInt64(byte & 0x7F)
            // The tenth byte holds one bit.
            guard shift < 63 || part <= 1 else { return nil }
            value |= part << shift
            if byte < 0x80 { return byte == 0 && shift > 0 ? nil : value }
        }
        return nil
    }

    /// The next signed number: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...
    mutating func zigzag() -> Int64? {
        varint().map { Int64(bitPattern: $0 >> 1) ^ -Int64(bitPattern: $0 & 1) }
    }
}

extension ByteWriter {
    mutating func addVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            add(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        add(UInt8(rest))
    }

    mutating func addZigzag(_ value: Int64) {
        addVarint(UInt64(bitPattern: value << 1 ^ value >> 63))
    }
}

/// A list of attributes in few bytes, where fields of a header would take at least 16 each: for every attribute its tag,
/// twice the number of its values plus 1 for floats, and the values, as signed numbers of variable length or as
/// little-endian floats. Tags rise.
enum AttributeCoding {
    static func bytes(_ attributes: [Opset.Attribute]) -> [UInt8] {
        var writer = ByteWriter()
        for attribute in attributes.sorted(by: { $0.tag < $1.tag }) {
            writer.addVarint(UInt64(attribute.tag))
            switch attribute.value {
            case .integers(let values):
                writer.addVarint(UInt64(values.count) << 1)
                for value in values { writer.addZigzag(value) }
            case .floats(let values):
                writer.addVarint(UInt64(values.count) << 1 | 1)
                for value in values { writer.add(value.bitPattern) }
            }
        }
        return writer.bytes
    }

    /// The attributes in some bytes, or nil where they are not well formed.
    static func attributes(_ bytes: [UInt8]) -> [Opset.Attribute]? {
        var reader = ByteReader(bytes[...])
        var attributes: [Opset.Attribute] = []
        var last = -1
        while reader.remaining > 0 {
            guard let tag = reader.varint().flatMap(UInt16.init(exactly:)), Int(tag) > last,
                let head = reader.varint()
            else { return nil }
            last = Int(tag)
            let size: UInt64 = head & 1 == 0 ? 1 : 4
            // A value takes at least so many bytes, so that the count cannot ask for more than is there.
            guard head >> 1 <= UInt64(reader.remaining) / size else { return nil }
            let count = Int(head >> 1)
            if size == 1 {
                var values: [Int64] = []
                for _ in 0..<count {
                    guard let value = reader.zigzag() else { return nil }
                    values.append(value)
                }
                attributes.append(Opset.Attribute(tag: tag, value: .integers(values)))
            } else {
                var values: [Float] = []
                for _ in 0..<count {
                    guard let bits = reader.number(UInt32.self) else { return nil }
                    values.append(Float(bitPattern: bits))
                }
                attributes.append(Opset.Attribute(tag: tag, value: .floats(values)))
            }
        }
        return attributes
    }
}
