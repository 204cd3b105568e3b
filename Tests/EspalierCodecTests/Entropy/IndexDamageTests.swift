import EspalierCodec
import Testing

/// Coded weights that are not as they were written give codes or an error, never a trap.
@Suite struct IndexDamageTests {
    private static let kinds: [WeightSamples.Kind] = [.laplace, .pruned, .ternary, .unused]

    private func attempt(_ bytes: [UInt8], rows: Int, columns: Int) -> IndexError? {
        do {
            let codes = try IndexCoder.decode(bytes[...], rows: rows, columns: columns)
            #expect(codes.count == rows * columns)
            return nil
        } catch { return error }
    }

    @Test(
        "R0.7: every truncation is an error, every flipped bit codes or an error", arguments: kinds,
        IndexMode.allCases)
    func truncationAndFlips(kind: WeightSamples.Kind, mode: IndexMode) {
        let codes = WeightSamples.codes(kind, rows: 24, columns: 20, seed: 8)
        let bytes = IndexCoder.encode(
            codes, rows: 24, columns: 20, mode: mode, tileWeights: 200
        ).bytes
        for length in bytes.indices {
            let error = attempt(Array(bytes[..<length]), rows: 24, columns: 20)
            #expect(error != nil && error?.tile == nil)
        }
        #expect(attempt(bytes + [0], rows: 24, columns: 20) != nil)
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            _ = attempt(damaged, rows: 24, columns: 20)
        }
    }

    @Test("R0.7: mutated bytes, predictors among them", arguments: 0..<12)
    func mutations(seed: Int) {
        var generator = WeightSamples.Generator(UInt64(seed) + 77)
        let mode = IndexMode.allCases[seed % 3]
        let kind = WeightSamples.Kind.allCases[seed % WeightSamples.Kind.allCases.count]
        let codes = WeightSamples.codes(kind, rows: 120, columns: 10, seed: UInt64(seed))
        var bytes = IndexCoder.encode(codes, rows: 120, columns: 10, mode: mode).bytes
        if mode != .fast {
            // A predictor of what bytes there are: 45 coefficients as they stand.
            bytes =
                [mode.rawValue, 3, 0, 0, 120, 0, 0, 0, 45, 0, 0, 0] + bytes[12..<16]
                + bytes.shuffled(using: &generator).prefix(45) + bytes[16...]
        }
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let limit = generator.uniform() < 0.3 ? min(64, damaged.count) : damaged.count
                damaged[Int.random(in: 0..<limit, using: &generator)] = .random(
                    in: 0...255, using: &generator)
            }
            _ = attempt(damaged, rows: 120, columns: 10)
        }
    }

    @Test("Heads that ask for too much are refused before anything is made")
    func heads() throws {
        let coded = IndexCoder.encode(
            WeightSamples.codes(.laplace, rows: 8, columns: 8, seed: 1), rows: 8, columns: 8,
            mode: .strong)
        func changed(_ index: Int, _ byte: UInt8) -> [UInt8] {
            var bytes = coded.bytes
            bytes[index] = byte
            return bytes
        }
        let cases: [([UInt8], Int, Int, String)] = [
            (changed(0, 4), 8, 8, "mode 4 is not known"),
            (changed(1, 4), 8, 8, "its flags are not known"),
            (changed(2, 1), 8, 8, "its flags are not known"),
            (changed(4, 0), 8, 8, "its flags are not known"),
            (changed(7, 255), 8, 8, "its tiles are too large"),
            (changed(11, 255), 8, 8, "is cut off"),
            (changed(15, 255), 8, 8, "its tiles are longer than it is"),
            (coded.bytes, .max, 2, "its shape is too large"),
            (coded.bytes, 1 << 40, 8, "is cut off"),
            ([], 1, 1, "is cut off"),
        ]
        for (bytes, rows, columns, problem) in cases {
            #expect(throws: IndexError(tile: nil, problem: problem)) {
                try IndexCoder.decode(bytes[...], rows: rows, columns: columns)
            }
        }
    }
}
