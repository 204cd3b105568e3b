/// A stream that cannot be read, or content that cannot be written, and why.
public struct NNCError: Error, CustomStringConvertible, Equatable {
    public let description: String

    init(_ description: String) { self.description = description }

    static let cutOff = NNCError("a header ends in the middle of a field")
}

/// Bits of headers, the most significant of each byte first.
struct NNCBitReader {
    private let bytes: [UInt8]
    /// The next bit, counted from the beginning of the bytes.
    private(set) var bit: Int
    /// One past the last bit.
    let end: Int

    /// Bits of a range of bytes, which must lie inside.
    init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        (bit, end) = (8 * range.lowerBound, 8 * range.upperBound)
    }

    /// u(n), up to 32 bits.
    mutating func bits(_ count: Int) throws(NNCError) -> Int {
        guard end - bit >= count else { throw .cutOff }
        var value = 0
        for _ in 0..<count {
            value = value << 1 | Int(bytes[bit >> 3] >> (7 - bit & 7) & 1)
            bit += 1
        }
        return value
    }

    mutating func flag() throws(NNCError) -> Bool { try bits(1) == 1 }

    /// i(n).
    mutating func signedBits(_ count: Int) throws(NNCError) -> Int {
        let value = try bits(count)
        return value >> (count - 1) == 1 ? value - 1 << count : value
    }

    /// ue(k).
    mutating func golomb(_ order: Int) throws(NNCError) -> Int {
        var (order, value) = (order, 0)
        while try !flag() {
            value += 1 << order
            order += 1
            guard order <= 32 else { throw NNCError("a number of more than 32 bits in a header") }
        }
        return try value + bits(order)
    }

    /// ie(k).
    mutating func signedGolomb(_ order: Int) throws(NNCError) -> Int {
        let code = try golomb(order)
        return code & 1 == 1 ? (code + 1) / 2 : -code / 2
    }

    /// st(v) at a byte's beginning.
    mutating func text() throws(NNCError) -> String {
        try checkAligned()
        let start = bit >> 3
        guard let zero = bytes[start..<end >> 3].firstIndex(of: 0) else {
            throw NNCError("a text without an end")
        }
        guard let text = String(validating: bytes[start..<zero], as: UTF8.self) else {
            throw NNCError("a text that is not UTF-8")
        }
        bit = 8 * (zero + 1)
        return text
    }

    /// One bit, and those up to the next byte.
    mutating func align() throws(NNCError) {
        _ = try bits(1)
        bit = (bit + 7) & ~7
    }

    /// Whole bytes, wherever they begin.
    mutating func wholeBytes(_ count: Int) throws(NNCError) -> [UInt8] {
        guard (end - bit) / 8 >= count else { throw .cutOff }
        var result: [UInt8] = []
        for _ in 0..<count { result.append(UInt8(try bits(8))) }
        return result
    }

    private func checkAligned() throws(NNCError) {
        guard bit & 7 == 0 else { throw NNCError("a text that does not begin with a byte") }
    }
}

/// The same, written.
struct NNCBitWriter {
    private(set) var bytes: [UInt8] = []
    private var count = 0

    mutating func bits(_ value: Int, _ width: Int) {
        for place in stride(from: width - 1, through: 0, by: -1) {
            if count & 7 == 0 { bytes.append(0) }
            bytes[bytes.count - 1] |= UInt8(value >> place & 1) << (7 - count & 7)
            count += 1
        }
    }

    mutating func flag(_ value: Bool) { bits(value ? 1 : 0, 1) }

    mutating func golomb(_ value: Int, _ order: Int) {
        var (order, value) = (order, value)
        while value >= 1 << order {
            bits(0, 1)
            value -= 1 << order
            order += 1
        }
        bits(1, 1)
        bits(value, order)
    }

    mutating func signedGolomb(_ value: Int, _ order: Int) {
        golomb(value > 0 ? 2 * value - 1 : -2 * value, order)
    }

    /// - Precondition: the text has no zero byte, and a byte begins here.
    mutating func text(_ text: String) {
        for byte in text.utf8 { bits(Int(byte), 8) }
        bits(0, 8)
    }

    mutating func align() {
        bits(1, 1)
        bits(0, -count & 7)
    }

    mutating func wholeBytes(_ more: [UInt8]) { for byte in more { bits(Int(byte), 8) } }

    /// Bits that a number takes as ue(k).
    static func golombLength(_ value: Int, _ order: Int) -> Int {
        var (order, value, length) = (order, value, 1)
        while value >= 1 << order {
            value -= 1 << order
            order += 1
            length += 1
        }
        return length + order
    }
}
