/// Exponential Golomb codes (Teuhola 1978): of order k, a number x is written as the binary digits of x + 2^k, behind
/// as many zeros as there are digits beyond the first k + 1.
package enum ExpGolomb {
    /// 0, 1, 2, 3, 4, ... for 0, 1, -1, 2, -2, ...
    package static func folded(_ value: Int32) -> UInt32 {
        let wide = Int64(value)
        return UInt32(wide > 0 ? 2 * wide - 1 : -2 * wide)
    }

    package static func unfolded(_ code: UInt32) -> Int32 {
        let half = (Int64(code) + 1) >> 1
        return Int32(truncatingIfNeeded: code & 1 == 1 ? half : -half)
    }

    /// The code of `value` as plain bits, lowest last, and how many they are.
    package static func bits(_ value: UInt32, order: Int) -> (bits: UInt64, count: Int) {
        let sum = UInt64(value) + (1 << order)
        let digits = UInt64.bitWidth - sum.leadingZeroBitCount
        return (sum, 2 * digits - order - 1)
    }
}

/// What the digits of an exponential Golomb code's beginning have been. Digits behind it are plain.
package struct GolombContexts: Hashable, Sendable {
    fileprivate var prefix = [AdaptiveBit](repeating: AdaptiveBit(), count: 33)

    package init() {}
}

extension BinaryEncoder {
    /// `value` by the code of order `order`, at most 16; the zeros in front of it are adaptive.
    package mutating func put(_ value: UInt32, order: Int, _ contexts: inout GolombContexts) {
        let sum = UInt64(value) + (1 << order)
        let extra = UInt64.bitWidth - sum.leadingZeroBitCount - order - 1
        for index in 0..<extra { put(false, &contexts.prefix[index]) }
        if extra < 32 { put(true, &contexts.prefix[extra]) }
        let digits = extra + order
        if digits > 16 { putPlain(UInt32(truncatingIfNeeded: sum >> 16), count: digits - 16) }
        putPlain(UInt32(truncatingIfNeeded: sum), count: min(digits, 16))
    }

    package mutating func put(signed value: Int32, order: Int, _ contexts: inout GolombContexts) {
        put(ExpGolomb.folded(value), order: order, &contexts)
    }
}

extension BinaryDecoder {
    /// Nil for what no writer puts: a number beyond 32 bits.
    package mutating func take(order: Int, _ contexts: inout GolombContexts) -> UInt32? {
        var extra = 0
        while extra < 32, !take(&contexts.prefix[extra]) { extra += 1 }
        let digits = extra + order
        var sum: UInt64 = 1
        if digits > 16 {
            sum = sum << UInt64(digits - 16) | UInt64(takePlain(count: min(digits - 16, 32)))
        }
        let last = min(digits, 16)
        sum = sum << UInt64(last) | UInt64(takePlain(count: last))
        return UInt32(exactly: sum - (1 << order))
    }

    package mutating func take(signedOrder order: Int, _ contexts: inout GolombContexts) -> Int32? {
        guard let code = take(order: order, &contexts), code < .max else { return nil }
        return ExpGolomb.unfolded(code)
    }
}
