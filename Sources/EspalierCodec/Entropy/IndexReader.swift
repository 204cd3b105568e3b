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
        // A tile may hold little more than its size; were there no limit, a few bytes could ask for any memory.
        guard columns <= IndexCoder.widestMatrix,
            tileRows == 1 || self.tileRows <= IndexCoder.largestTile / max(columns, 1)
        else { throw fault("its tiles are too large") }
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
        var fault: IndexError?
        let codes = unsafe [Int8](unsafeUninitializedCapacity: rows * columns) {
            buffer, initialized in
            do throws(IndexError) {
                try unsafe Self.decode([self], into: [buffer])
            } catch { fault = error }
            initialized = rows * columns
        }
        if let fault { throw fault }
        return codes
    }

    /// Decodes several matrices, the tiles of all side by side, each into a buffer of its size. Codes of
    /// tiles that are none become zeros, and the first of these is thrown.
    package static func decode(
        _ readers: [IndexReader], into buffers: [UnsafeMutableBufferPointer<Int8>]
    ) throws(IndexError) {
        require(unsafe readers.count == buffers.count, "a buffer for each matrix")
        let places = readers.indices.flatMap { reader in
            (0..<readers[reader].tileCount).map { (reader: reader, tile: $0) }
        }
        var results = [Bool](repeating: false, count: places.count)
        unsafe results.withUnsafeMutableBufferPointer { results in
            let results = unsafe results
            ThreadPool.shared.forEachChunk(places.count) { index in
                let reader = readers[places[index].reader]
                let (rows, columns) = (reader.rowRange(ofTile: places[index].tile), reader.columns)
                let part = unsafe UnsafeMutableBufferPointer(
                    rebasing: buffers[places[index].reader][
                        rows.lowerBound * columns..<rows.upperBound * columns])
                unsafe results[index] = reader.decode(tile: places[index].tile, into: part)
            }
        }
        if let wrong = results.firstIndex(of: false) {
            throw IndexError(tile: places[wrong].tile, problem: "its bytes are no tile")
        }
    }

    private func decode(tile index: Int, into codes: UnsafeMutableBufferPointer<Int8>) -> Bool {
        let rows = rowRange(ofTile: index).count
        let tile = IndexTile(rows: rows, columns: columns, mode: mode)
        return unsafe tile.decode(
            tiles[index], predictor: predictor, hasMultipliers: usesRowsAbove, into: codes)
    }
}
