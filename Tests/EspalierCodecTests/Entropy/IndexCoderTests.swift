import EspalierCodec
import Testing

/// Entropy coding of weight codes in all modes.
@Suite struct IndexCoderTests {
    typealias Kind = WeightSamples.Kind

    private func returned(_ coded: CodedIndices) throws -> [Int8] {
        try IndexCoder.decode(coded.bytes[...], rows: coded.rows, columns: coded.columns)
    }

    @Test(
        "Codes come back, whatever their kind, shape and mode", arguments: Kind.allCases,
        IndexMode.allCases)
    func roundTrip(kind: Kind, mode: IndexMode) throws {
        let shapes = [
            (0, 0), (0, 5), (3, 0), (1, 1), (1, 2), (2, 1), (1, 8), (7, 1), (3, 7), (1, 300),
            (300, 1),
            (31, 17), (64, 64), (90, 33), (200, 12), (33, 1030),
        ]
        for (index, shape) in shapes.enumerated() {
            let codes = WeightSamples.codes(
                kind, rows: shape.0, columns: shape.1, seed: UInt64(index + 3))
            for tileWeights in [1, 200, 1 << 18] {
                let coded = IndexCoder.encode(
                    codes, rows: shape.0, columns: shape.1, mode: mode, tileWeights: tileWeights)
                #expect(try returned(coded) == codes, "\(shape), tiles of \(tileWeights)")
                #expect(coded.bytes.count <= 12 + coded.tiles.count * 7 + codes.count)
            }
        }
    }

    @Test("T6.1: an independent strong coder agrees on 100,000 random layers", arguments: 0..<20)
    func T6_1_independentCoders(part: Int) throws {
        for index in 0..<5000 {
            let seed = UInt64(part * 5000 + index + 1)
            var generator = WeightSamples.Generator(seed)
            let kind = Kind.allCases[index % Kind.allCases.count]
            let rows = Int.random(in: 1...6, using: &generator)
            let columns = Int.random(in: 1...12, using: &generator)
            try agree(
                WeightSamples.codes(kind, rows: rows, columns: columns, seed: seed), rows, columns)
        }
    }

    @Test("T6.1: an independent strong coder agrees on larger layers", arguments: Kind.allCases)
    func T6_1_independentCodersLarge(kind: Kind) throws {
        for (rows, columns) in [(70, 90), (3, 2000), (1500, 4)] {
            try agree(
                WeightSamples.codes(kind, rows: rows, columns: columns, seed: 5), rows, columns)
        }
    }

    /// Layers that are stored as they are say nothing.
    private func agree(_ codes: [Int8], _ rows: Int, _ columns: Int) throws {
        let reference = StrongReference.encoded(codes, rows: rows, columns: columns)
        #expect(StrongReference.decoded(reference, rows: rows, columns: columns) == codes)
        guard let tile = IndexCoder.tile(codes, rows: rows, columns: columns, mode: .strong) else {
            #expect(reference.count >= codes.count)
            return
        }
        #expect(tile == reference)
        #expect(StrongReference.decoded(tile, rows: rows, columns: columns) == codes)
    }

    @Test(
        "T6.3, T6.7: Laplace codes within three percent of their entropy, and of one percent and 64 bytes a tile in adaptive modes",
        arguments: IndexMode.allCases)
    func T6_7_nearEntropy(mode: IndexMode) throws {
        for scale in [0.4, 1, 3, 10, 30] {
            var generator = WeightSamples.Generator(9)
            let codes = (0..<512 * 512).map { _ in
                let u = generator.uniform() - 0.5
                let x = (scale * WeightSamples.negativeLog(1 - 2 * abs(u))).rounded()
                return Int8((u < 0 ? -x : x).clamped)
            }
            let coded = IndexCoder.encode(codes, rows: 512, columns: 512, mode: mode)
            let bits = Double(coded.bytes.count * 8)
            let bound = WeightSamples.entropy(codes)
            #expect(
                bits < bound * (mode == .fast ? 1.03 : 1.01) + 64 * 8,
                "scale \(scale): \(bits / bound)")
            #expect(try returned(coded) == codes)
        }
    }

    @Test(
        "T5.5: a tile is decoded alone, and damage in it leaves the others",
        arguments: IndexMode.allCases)
    func tilesStandAlone(mode: IndexMode) throws {
        let codes = WeightSamples.codes(.rowScales, rows: 64, columns: 48, seed: 4)
        let coded = IndexCoder.encode(
            codes, rows: 64, columns: 48, mode: mode, tileWeights: 48 * 10)
        #expect(coded.tiles.count == 7)
        var bytes = coded.bytes
        let end = bytes.count - coded.tiles[6].count - coded.tiles[5].count
        for index in end - coded.tiles[4].count..<end { bytes[index] ^= 0x5A }
        let reader = try IndexReader(bytes[...], rows: 64, columns: 48)
        for tile in 0..<7 where tile != 4 {
            let rows = reader.rowRange(ofTile: tile)
            #expect(
                try reader.codes(ofTile: tile)
                    == Array(codes[rows.lowerBound * 48..<rows.upperBound * 48]))
        }
        #expect((try? reader.codes(ofTile: 4)) != Array(codes[40 * 48..<50 * 48]))
    }

    @Test(
        "Columns that depend on one another, and rows like those above, cost less",
        arguments: [IndexMode.strong, .symbols])
    func prediction(mode: IndexMode) throws {
        var generator = WeightSamples.Generator(6)
        let columns = 24
        let mixture = (0..<columns * 4).map { _ in generator.uniform() - 0.5 }
        var codes: [Int8] = []
        for _ in 0..<4000 {
            let factors = (0..<4).map { _ in generator.uniform() - 0.5 }
            for column in 0..<columns {
                let sum = (0..<4).reduce(0) { $0 + factors[$1] * mixture[column * 4 + $1] }
                codes.append(Int8((sum * 180 + generator.uniform() * 20).rounded().clamped))
            }
        }
        let coded = IndexCoder.encode(codes, rows: 4000, columns: columns, mode: mode)
        #expect(!coded.predictor.isEmpty)
        #expect(Double(coded.bytes.count * 8) < WeightSamples.entropy(codes) * 0.9)
        #expect(try returned(coded) == codes)

        var row = (0..<200).map { _ in generator.uniform() * 100 - 50 }
        var smooth: [Int8] = []
        for _ in 0..<200 {
            for index in row.indices {
                row[index] = row[index] * 0.97 + generator.uniform() * 12 - 6
            }
            smooth += row.map { Int8($0.rounded().clamped) }
        }
        let alike = IndexCoder.encode(smooth, rows: 200, columns: 200, mode: mode)
        #expect(alike.usesRowsAbove)
        #expect(Double(alike.bytes.count * 8) < WeightSamples.entropy(smooth) * 0.8)
        #expect(try returned(alike) == smooth)
    }
}

extension Double {
    /// Within what a code can be.
    var clamped: Double { Swift.min(Swift.max(self, -127), 127) }
}
