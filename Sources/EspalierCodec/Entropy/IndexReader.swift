import EspalierTensors

/// Reads coded weights tile by tile.
package struct IndexReader: Sendable {
    package let mode: IndexMode
    package let rows: Int
    package let columns: Int
    package let tileRows: Int
    private let tiles: [ArraySlice<UInt8>]
    private let predictor: Predictor?
    private let usesRowsAbove: Bool

    /// Reads the head and the predictor. `rows` x `columns` comes from a header that has been checked.
    package init(_ bytes: ArraySlice<UInt8>, rows: Int, columns: Int) throws(IndexError) {
        func fault(_ problem: String) -> IndexError { IndexError(tile: nil, problem: problem) }
        var reader = ByteReader(bytes)
        guard let modeByte: UInt8 = reader.number(), let flags: UInt8 = reader.number(),
            let reserved: UInt16 = reader.number(), let tileRows: UInt32 = reader.number(),
            let predictorBytes: UInt32 = reader.number()
        else { throw fault("is cut off") }
        guard let mode = IndexMode(rawValue: modeByte) else {
            throw fault("mode \(modeByte) is not known")
        }
        guard flags < 4, reserved == 0, tileRows > 0, mode != .fast || flags == 0 else {
            throw fault("its flags are not known")
        }
        self.mode = mode
        self.rows = rows
        self.columns = columns
        self.tileRows = Int(tileRows)
        usesRowsAbove = flags & 2 != 0
        let (weights, overflow) = rows.multipliedReportingOverflow(by: columns)
        guard rows >= 0, columns >= 0, !overflow else { throw fault("its shape is too large") }
        let count = weights == 0 ? 0 : (rows - 1) / self.tileRows + 1
        guard let sizes = reader.take(4 * count) else { throw fault("is cut off") }
        var table = ByteReader(sizes)
        guard let packed = reader.take(Int(predictorBytes)) else { throw fault("is cut off") }
        guard (flags & 1 != 0) == !packed.isEmpty,
            flags == 0 || (2...IndexCoder.widestPrediction).contains(columns)
        else { throw fault("its predictor is not one") }
        if packed.isEmpty {
            predictor = nil
        } else {
            guard let read = Predictor(packed, columns: columns) else {
                throw fault("its predictor is not one")
            }
            predictor = read
        }
        var tiles: [ArraySlice<UInt8>] = []
        tiles.reserveCapacity(count)
        for _ in 0..<count {
            guard let size: UInt32 = table.number(), let tile = reader.take(Int(size)) else {
                throw fault("its tiles are longer than it is")
            }
            tiles.append(tile)
        }
        guard reader.remaining == 0 else { throw fault("bytes follow the last tile") }
        self.tiles = tiles
    }

    package var tileCount: Int { tiles.count }

    /// The rows of tile `index`.
    package func rowRange(ofTile index: Int) -> Range<Int> {
        index * tileRows..<min(rows, (index + 1) * tileRows)
    }

    /// The codes of one tile; no other is touched.
    package func codes(ofTile index: Int) throws(IndexError) -> [Int8] {
        let count = rowRange(ofTile: index).count * columns
        var isRight = false
        let codes = unsafe [Int8](unsafeUninitializedCapacity: count) { buffer, initialized in
            isRight = unsafe decode(tile: index, into: buffer)
            initialized = count
        }
        guard isRight else { throw IndexError(tile: index, problem: "its bytes are no tile") }
        return codes
    }

    /// All codes, tiles side by side.
    package func codes() throws(IndexError) -> [Int8] {
        var results = [Bool](repeating: false, count: tileCount)
        let codes = unsafe [Int8](unsafeUninitializedCapacity: rows * columns) {
            buffer, initialized in
            let all = unsafe buffer
            unsafe results.withUnsafeMutableBufferPointer { results in
                let results = unsafe results
                ThreadPool.shared.forEachChunk(tileCount) { index in
                    let range = rowRange(ofTile: index)
                    let part = unsafe UnsafeMutableBufferPointer(
                        rebasing: all[range.lowerBound * columns..<range.upperBound * columns])
                    unsafe results[index] = decode(tile: index, into: part)
                }
            }
            initialized = rows * columns
        }
        if let wrong = results.firstIndex(of: false) {
            throw IndexError(tile: wrong, problem: "its bytes are no tile")
        }
        return codes
    }

    private func decode(tile index: Int, into codes: UnsafeMutableBufferPointer<Int8>) -> Bool {
        let rows = rowRange(ofTile: index).count
        let tile = IndexTile(rows: rows, columns: columns, mode: mode)
        return unsafe tile.decode(
            tiles[index], predictor: predictor, hasMultipliers: usesRowsAbove, into: codes)
    }
}
