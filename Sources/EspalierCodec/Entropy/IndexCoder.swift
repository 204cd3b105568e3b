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

    /// More weights than this are in a tile only where it is a single row.
    static let largestTile = 1 << 22

    /// Columns of a matrix at most.
    package static let widestMatrix = 1 << 26

    /// Matrices with more columns have no predictor of their columns.
    static let widestPrediction = 1024

    /// Codes `codes`, `rows` x `columns` row-major. The same bytes for any number of threads.
    package static func encode(
        _ codes: [Int8], rows: Int, columns: Int, mode: IndexMode,
        tileWeights: Int = IndexCoder.tileWeights
    ) -> CodedIndices {
        let matrix = IndexMatrix(codes: codes, rows: rows, columns: columns)
        return encode([matrix], mode: mode, tileWeights: tileWeights)[0]
    }

    /// Codes several matrices, the tiles of all side by side.
    package static func encode(
        _ matrices: [IndexMatrix], mode: IndexMode, tileWeights: Int = IndexCoder.tileWeights
    ) -> [CodedIndices] {
        let plans = matrices.map { TilePlan($0, mode: mode, tileWeights: tileWeights) }
        let places = plans.indices.flatMap { plan in
            (0..<plans[plan].tileCount).map { (plan: plan, tile: $0) }
        }
        var tiles = [[UInt8]](repeating: [], count: places.count)
        unsafe tiles.withUnsafeMutableBufferPointer { buffer in
            let tiles = unsafe buffer
            ThreadPool.shared.forEachChunk(places.count) { index in
                let (plan, tile) = places[index]
                unsafe tiles[index] = plans[plan].encoded(tile: tile)
            }
        }
        var next = 0
        return plans.map { plan in
            defer { next += plan.tileCount }
            return plan.coded(Array(tiles[next..<next + plan.tileCount]))
        }
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

/// Integer codes, `rows` x `columns` row-major.
package struct IndexMatrix: Hashable, Sendable {
    package let codes: [Int8]
    package let rows: Int
    package let columns: Int

    package init(codes: [Int8], rows: Int, columns: Int) {
        require(
            rows >= 0 && columns >= 0 && codes.count == rows * columns,
            "\(codes.count) codes are not \(rows) x \(columns)")
        require(columns <= IndexCoder.widestMatrix, "a matrix of \(columns) columns")
        self.codes = codes
        self.rows = rows
        self.columns = columns
    }
}

/// How a matrix will be coded.
private struct TilePlan {
    let matrix: IndexMatrix
    let mode: IndexMode
    let tileRows: Int
    /// Whether tiles are predicted at all.
    let isPredictable: Bool
    let predictor: Predictor?

    init(_ matrix: IndexMatrix, mode: IndexMode, tileWeights: Int) {
        self.matrix = matrix
        self.mode = mode
        let tileWeights = min(tileWeights, IndexCoder.largestTile)
        tileRows = max(min(tileWeights / max(matrix.columns, 1), matrix.rows), 1)
        isPredictable =
            mode != .fast && (2...IndexCoder.widestPrediction).contains(matrix.columns)
            && !matrix.codes.isMostlyZero
        predictor =
            isPredictable
            ? Predictor.fitted(to: matrix.codes, rows: matrix.rows, columns: matrix.columns) : nil
    }

    var tileCount: Int { matrix.codes.isEmpty ? 0 : (matrix.rows - 1) / tileRows + 1 }

    func encoded(tile index: Int) -> [UInt8] {
        let (first, columns) = (index * tileRows, matrix.columns)
        let tile = IndexTile(rows: min(tileRows, matrix.rows - first), columns: columns, mode: mode)
        let codes = matrix.codes[first * columns..<(first + tile.rows) * columns]
        return isPredictable ? tile.encoded(codes, predictor: predictor) : tile.encoded(codes)
    }

    /// Where no tile gains by the rows above, none of them says so.
    func coded(_ tiles: [[UInt8]]) -> CodedIndices {
        let usesRowsAbove = isPredictable && tiles.contains { $0[..<3].contains { $0 != 0 } }
        return CodedIndices(
            mode: mode, rows: matrix.rows, columns: matrix.columns, tileRows: tileRows,
            predictor: predictor?.bytes ?? [], usesRowsAbove: usesRowsAbove,
            tiles: isPredictable && !usesRowsAbove ? tiles.map { Array($0.dropFirst(3)) } : tiles)
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
