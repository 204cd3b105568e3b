import EspalierKernels

/// Makes the checksums of a damaged file match again, as far as its headers can still be followed.
package enum ChecksumRepair {
    package static func repair(_ bytes: inout [UInt8]) {
        guard let headerBytes = number(bytes, 8, 4), headerBytes >= 64,
            headerBytes <= bytes.count, let count = number(bytes, 16, 4)
        else { return }
        var position = headerBytes
        for _ in 0..<count {
            guard let next = repairLayer(&bytes, position) else { break }
            position = next
        }
        set(&bytes, 60, crc(bytes, headerBytes, position))
        let own = Array(bytes[0..<56]) + bytes[64..<headerBytes]
        set(&bytes, 56, Kernels.crc32c(own.span))
    }

    private static func repairLayer(_ bytes: inout [UInt8], _ start: Int) -> Int? {
        guard let inputs = number(bytes, start + 8, 4),
            let subLayers = number(bytes, start + 12, 4),
            let offset = number(bytes, start + 16, 8), let size = number(bytes, start + 24, 8),
            let name = number(bytes, start + 38, 2), let fields = number(bytes, start + 44, 4),
            inputs < 1 << 20, fields < 1 << 20
        else { return nil }
        var position = aligned(start + 48 + name + 8 * inputs) + fields
        for _ in 0..<subLayers {
            guard let rank = number(bytes, position + 2, 1),
                let place = number(bytes, position + 8, 8),
                let length = number(bytes, position + 16, 8)
            else { return nil }
            if place <= bytes.count, length <= bytes.count - place {
                set(&bytes, position + 24, crc(bytes, place, place + length))
            }
            position = aligned(position + 32 + 4 * rank)
        }
        if offset <= bytes.count, size <= bytes.count - offset {
            set(&bytes, start + 40, crc(bytes, offset, offset + size))
        }
        return position <= bytes.count ? position : nil
    }

    private static func aligned(_ position: Int) -> Int { (position + 7) / 8 * 8 }

    private static func number(_ bytes: [UInt8], _ at: Int, _ size: Int) -> Int? {
        guard at >= 0, at + size <= bytes.count else { return nil }
        let value = (0..<size).reduce(UInt64(0)) { $0 | UInt64(bytes[at + $1]) << (8 * $1) }
        return Int(exactly: value)
    }

    private static func crc(_ bytes: [UInt8], _ start: Int, _ end: Int) -> UInt32 {
        let part = Array(bytes[start..<end])
        return Kernels.crc32c(part.span)
    }

    private static func set(_ bytes: inout [UInt8], _ at: Int, _ value: UInt32) {
        for index in 0..<4 { bytes[at + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
    }
}
