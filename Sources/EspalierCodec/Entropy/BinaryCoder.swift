/// The chance that the next bit is 0, in 1/2048, learned from the bits before.
package struct AdaptiveBit: Hashable, Sendable {
    /// 1...2047; 1024 is even.
    package private(set) var zero: UInt32 = 1024

    package init() {}

    fileprivate mutating func learn(_ bit: Bool) {
        if bit { zero -= zero >> 5 } else { zero += (2048 - zero) >> 5 }
    }
}

/// The binary range coder of quantization information: 32-bit range, 11-bit adaptive chances, carries, five bytes
/// to flush (Martin 1979; the same numbers as LZMA's coder). Its bytes are frozen by test vectors.
package struct BinaryEncoder {
    private var low: UInt64 = 0
    private var range: UInt32 = .max
    private var held: UInt8 = 0
    private var pending = 1
    private var bytes: [UInt8] = []

    package init() {}

    /// A bit, coded by what `context` expects.
    package mutating func put(_ bit: Bool, _ context: inout AdaptiveBit) {
        let bound = (range >> 11) * context.zero
        if bit {
            low += UInt64(bound)
            range -= bound
        } else {
            range = bound
        }
        context.learn(bit)
        normalize()
    }

    /// The lowest `count` bits of `value`, highest first, all as likely as not.
    package mutating func putPlain(_ value: UInt32, count: Int) {
        for shift in (0..<count).reversed() {
            range >>= 1
            if value >> UInt32(shift) & 1 == 1 { low += UInt64(range) }
            normalize()
        }
    }

    /// All that was put, as bytes.
    package consuming func finish() -> [UInt8] {
        for _ in 0..<5 { shiftLow() }
        return bytes
    }

    private mutating func normalize() {
        while range < 1 << 24 {
            range <<= 8
            shiftLow()
        }
    }

    /// Sends the highest byte of `low`. A byte of ones waits, since a carry may still come.
    private mutating func shiftLow() {
        let carry = UInt8(truncatingIfNeeded: low >> 32)
        let top = UInt8(truncatingIfNeeded: low >> 24)
        if carry != 0 || top != 0xFF {
            bytes.append(held &+ carry)
            for _ in 1..<pending { bytes.append(0xFF &+ carry) }
            pending = 1
            held = top
        } else {
            pending += 1
        }
        low = (low & 0x00FF_FFFF) << 8
    }
}

/// Reads what a `BinaryEncoder` wrote. Behind the end lie zeros: any bytes give some bits.
package struct BinaryDecoder {
    private var range: UInt32 = .max
    private var code: UInt32 = 0
    private let bytes: ArraySlice<UInt8>
    private var position: Int

    package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex + 1
        for _ in 0..<4 { code = code << 8 | next() }
    }

    /// Whether more was read than a writer's five bytes behind the last bit allow for.
    package var isExhausted: Bool { position > bytes.endIndex }

    package mutating func take(_ context: inout AdaptiveBit) -> Bool {
        let bound = (range >> 11) * context.zero
        let bit = code >= bound
        if bit {
            code -= bound
            range -= bound
        } else {
            range = bound
        }
        context.learn(bit)
        normalize()
        return bit
    }

    package mutating func takePlain(count: Int) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            range >>= 1
            let bit = code >= range
            if bit { code -= range }
            value = value << 1 | (bit ? 1 : 0)
            normalize()
        }
        return value
    }

    private mutating func normalize() {
        while range < 1 << 24 {
            range <<= 8
            code = code << 8 | next()
        }
    }

    private mutating func next() -> UInt32 {
        defer { position += 1 }
        return position < bytes.endIndex ? UInt32(bytes[position]) : 0
    }
}
