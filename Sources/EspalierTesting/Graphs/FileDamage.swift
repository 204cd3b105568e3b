package import EspalierTensors

/// Random damage behind checksums that match: what a reader must not believe.
package enum FileDamage {
    /// A file with one to three changes, mostly in its headers: they are what is believed.
    ///
    /// - Parameters:
    ///   - headers: The bytes before the first data.
    ///   - random: What the changes are drawn from.
    package static func damaged(
        _ original: [UInt8], headers: Int, random: RandomStream
    ) -> [UInt8] {
        let draws = random.integers(24, below: 1 << 16)
        var bytes = original
        let limit = draws[0] % 4 == 0 || headers == 0 ? bytes.count : headers
        for change in 0..<1 + draws[1] % 3 {
            let place = draws[2 + change] % limit
            let value = [0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF][draws[6 + change] % 8]
            // One byte, one bit, a number of four bytes.
            switch draws[10 + change] % 3 {
            case 0: bytes[place] = UInt8(value)
            case 1: bytes[place] ^= 1 << UInt8(draws[14 + change] % 8)
            default:
                for index in place..<min(place + 4, bytes.count) {
                    bytes[index] = UInt8(truncatingIfNeeded: draws[18] >> (index - place))
                }
            }
        }
        ChecksumRepair.repair(&bytes)
        return bytes
    }
}
