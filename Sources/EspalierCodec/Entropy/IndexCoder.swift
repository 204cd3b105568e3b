import EspalierTensors

/// How integer weight codes are written.
package enum IndexMode: UInt8, CaseIterable, Sendable {
    /// Adaptive binary decisions: smallest.
    case strong = 1
    /// Adaptive ranges of whole symbols: about as small, several times as fast.
    case symbols = 2
    /// Prefix codes: within two percent of the entropy, for the time of loading.
    case fast = 3
}

/// What is wrong with coded weights.
package struct IndexError: Error, Hashable, CustomStringConvertible {
    /// The tile, or nil where it is what stands before the tiles.
    package let tile: Int?
    package let problem: String

    package init(tile: Int?, problem: String) {
        self.tile = tile
        self.problem = problem
    }

    package var description: String {
        "\(tile.map { "tile \($0)" } ?? "head of coded weights"): \(problem)"
    }
}

/// Integer weight codes of a matrix in an entropy-coded form, cut into tiles of whole rows that are decoded without
/// one another. docs/entropy.md has the bytes.
package struct CodedIndices: Hashable, Sendable {
    package let mode: IndexMode
    package let rows: Int
    package let columns: Int
    /// Rows of a tile; the last has what is left.
    package let tileRows: Int
    /// The coefficients of the columns' predictor, coded; empty without one.
    package let predictor: [UInt8]
    /// Whether tiles begin with the multipliers of the rows above.
    package let usesRowsAbove: Bool
    package let tiles: [[UInt8]]

    static let headBytes = 12

    /// Head, predictor and tiles, one behind another.
    package var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.add(mode.rawValue)
        writer.add(UInt8((predictor.isEmpty ? 0 : 1) | (usesRowsAbove ? 2 : 0)))
        writer.add(UInt16(0))
        writer.add(UInt32(tileRows))
        writer.add(UInt32(predictor.count))
        for tile in tiles { writer.add(UInt32(tile.count)) }
        writer.add(predictor)
        for tile in tiles { writer.add(tile) }
        return writer.bytes
    }

    /// How many rows tile `index` has.
    package func rowCount(ofTile index: Int) -> Int { min(tileRows, rows - index * tileRows) }
}

package enum IndexCoder {
    /// Weights of a tile, unless a row alone has more: tiles are this large so that what a tile learns is little
    /// beside what it holds.
    package static let tileWeights = 1 << 18

    /// Matrices with more columns have no predictor of their columns.
    static let widestPrediction = 1024

    /// Codes `codes`, `rows` x `columns` row-major. The same bytes for any number of threads.
    package static func encode(
        _ codes: [Int8], rows: Int, columns: Int, mode: IndexMode,
        tileWeights: Int = IndexCoder.tileWeights
    ) -> CodedIndices {
        require(
            rows >= 0 && columns >= 0 && codes.count == rows * columns,
            "\(codes.count) codes are not \(rows) x \(columns)")
        let tileRows = max(min(tileWeights / max(columns, 1), rows), 1)
        guard !codes.isEmpty else {
            return CodedIndices(
                mode: mode, rows: rows, columns: columns, tileRows: tileRows, predictor: [],
                usesRowsAbove: false, tiles: [])
        }
        let predictable = mode != .fast && columns > 1 && !codes.isMostlyZero
        let predictor =
            predictable ? Predictor.fitted(to: codes, rows: rows, columns: columns) : nil
        let count = (rows + tileRows - 1) / tileRows
        var tiles = [[UInt8]](repeating: [], count: count)
        unsafe tiles.withUnsafeMutableBufferPointer { buffer in
            let tiles = unsafe buffer
            ThreadPool.shared.forEachChunk(count) { index in
                let first = index * tileRows
                let tile = IndexTile(
                    rows: min(tileRows, rows - first), columns: columns, mode: mode)
                let part = codes[first * columns..<(first + tile.rows) * columns]
                unsafe tiles[index] =
                    predictable
                    ? tile.encoded(part, predictor: predictor) : tile.encoded(part)
            }
        }
        // Where no tile gains by the rows above, none of them says so.
        let usesRowsAbove = predictable && tiles.contains { $0[..<3].contains { $0 != 0 } }
        if predictable && !usesRowsAbove {
            for index in tiles.indices { tiles[index].removeFirst(3) }
        }
        return CodedIndices(
            mode: mode, rows: rows, columns: columns, tileRows: tileRows,
            predictor: predictor?.bytes ?? [], usesRowsAbove: usesRowsAbove, tiles: tiles)
    }

    /// One tile without prediction; nil where it would not be shorter than the codes themselves.
    package static func tile(
        _ codes: [Int8], rows: Int, columns: Int, mode: IndexMode
    ) -> [UInt8]? {
        require(!codes.isEmpty && codes.count == rows * columns, "a tile is \(rows) x \(columns)")
        let bytes = IndexTile(rows: rows, columns: columns, mode: mode).encoded(codes[...])
        return bytes.count < codes.count ? bytes : nil
    }

    /// The codes of `bytes`, a matrix of `rows` x `columns`. Nothing larger than that is made.
    package static func decode(
        _ bytes: ArraySlice<UInt8>, rows: Int, columns: Int
    ) throws(IndexError) -> [Int8] {
        try IndexReader(bytes, rows: rows, columns: columns).codes()
    }
}

extension [Int8] {
    /// Whether more than half are zero: those are not predicted.
    var isMostlyZero: Bool {
        var zeros = 0
        for code in self where code == 0 { zeros += 1 }
        return zeros > count / 2
    }
}
