import EspalierInterchange
import EspalierTensors
import EspalierTesting
import Testing

/// Streams that are not as they were written: an error or other values, never a trap.
@Suite struct NNCDamageTests {
    private let options = {
        var options = NNCReader.Options()
        options.limit = 1 << 16
        options.leastForEntryPoints = 0
        return options
    }()

    // Whether it was read; all that can be asked of it is asked.
    private func attempt(_ bytes: [UInt8], after previous: NNCReader? = nil) -> Bool {
        guard let reader = try? NNCReader(bytes, after: previous, options: options) else {
            return false
        }
        for tensor in reader.tensors {
            _ = tensor.floats
            _ = tensor.codes
        }
        _ = reader.unfolded
        _ = try? reader.encodedAgain(after: previous)
        return true
    }

    @Test("Every truncation is found, and no flipped bit traps", arguments: NNCVector.available)
    func everyBit(_ vector: NNCVector) throws {
        var previous: NNCReader?
        for stream in vector.streams where stream.bytes.count < 1000 {
            let bytes = stream.bytes
            let places = unitEnds(bytes)
            for length in 0..<bytes.count where !places.contains(length) {
                #expect(!attempt(Array(bytes.prefix(length)), after: previous), "\(length)")
            }
            var refused = 0
            for bit in 0..<8 * bytes.count {
                var damaged = bytes
                damaged[bit / 8] ^= 1 << (bit % 8)
                if !attempt(damaged, after: previous) { refused += 1 }
            }
            #expect(refused > 8 * 3)
            previous = try NNCReader(bytes, after: previous)
        }
    }

    // A stream that ends behind a unit is whole.
    private func unitEnds(_ bytes: [UInt8]) -> Set<Int> {
        var (ends, place) = (Set<Int>(), 0)
        while place + 4 <= bytes.count {
            let isLong = bytes[place] >> 7 == 1
            place +=
                bytes[place..<place + (isLong ? 4 : 2)].reduce(0) { $0 << 8 | Int($1) }
                & (isLong ? 0x7FFF_FFFF : 0x7FFF)
            ends.insert(place)
        }
        return ends
    }

    @Test("Many changes at once", arguments: 0..<4)
    func mutants(seed: Int) {
        let samples = NNCVector.small.flatMap(\.streams).map(\.bytes)
        let root = RandomStream(seed: UInt64(seed))
        var (read, refused) = (0, 0)
        for round in 0..<4_000 {
            let random = root.child(UInt64(round))
            var bytes = samples[round % samples.count]
            let words = random.words(8)
            for word in words.prefix(1 + Int(words[7] % 6)) {
                let place = Int(word >> 8) % bytes.count
                switch word % 5 {
                case 0: bytes.remove(at: place)
                case 1: bytes.insert(UInt8(word >> 40 & 255), at: place)
                case 2: bytes[place] = 0
                case 3: bytes[place] = 255
                default: bytes[place] = UInt8(word >> 40 & 255)
                }
                if bytes.isEmpty { break }
            }
            if attempt(bytes) { read += 1 } else { refused += 1 }
        }
        #expect(read > 20 && refused > 1_000, "\(read) read, \(refused) refused")
    }

    @Test("Streams that cannot be")
    func impossible() {
        let start: [UInt8] = [0, 4, 2, 1]
        let parameters: [UInt8] = [0, 8, 6, 0x81, 0, 0x40, 0, 0x80]
        #expect(attempt(start + parameters))
        for bytes in [
            [], [0], [0, 0, 0, 0], start, start + start, parameters, parameters + start,
            start + parameters + parameters, [0, 4, 2, 2] + parameters,
            start + parameters + [0, 3, 0x12], start + parameters + [0x80, 0, 0, 3, 0x12],
            start + parameters + [0xFF, 0xFF, 0xFF, 0xFF, 0x16], start + [0, 3, 0x16] + parameters,
        ] as [[UInt8]] {
            #expect(!attempt(bytes), "\(bytes)")
        }
    }
}
