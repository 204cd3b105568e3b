import CEspalierKernels
import EspalierTensors

/// Live entries in the order in which a kernel takes them; see `esp_f32_sparse`.
struct SparseOrder: Sendable {
    let rows: Int
    let columns: Int
    private let span: Int
    private var groups: [UInt32] = []
    private var lengths: [UInt32] = []
    private var rowNumbers: [UInt16] = []
    private var indices: [UInt16] = []
    /// Of each value in this order its place in canonical order, -1 for one that fills up.
    private(set) var canonical: [Int32] = []
    /// Of each live entry in canonical order its place in this one.
    private(set) var places: [Int32] = []

    private init(_ entries: LiveEntries, span: Int) {
        (rows, columns, self.span) = (entries.rows, entries.columns, span)
    }

    /// Groups of four rows of similar length, one index for each entry.
    init(singles entries: LiveEntries, span: Int) {
        self.init(entries, span: span)
        let bounds = entries.bounds(span: span)
        for s in 0..<bounds.count - 1 {
            let before = lengths.count
            let range = { (row: Int) in bounds[s][row]..<bounds[s + 1][row] }
            let order = (0..<rows).sorted { (-range($0).count, $0) < (-range($1).count, $1) }
            let filled = order.firstIndex { range($0).isEmpty } ?? rows
            // Rows without entries are kept apart, and only started once: they must not meet what they do not read.
            let parts = s == 0 ? [order[..<filled], order[filled...]] : [order[..<filled]]
            for part in parts {
                for first in stride(from: part.startIndex, to: part.endIndex, by: 4) {
                    let members = part[first..<min(first + 4, part.endIndex)]
                    append(members.map { ($0, range($0)) }, entries, empty: s * span)
                }
            }
            groups.append(UInt32(lengths.count - before))
        }
        finish(entries)
    }

    private mutating func append(
        _ members: [(row: Int, range: Range<Int>)], _ entries: LiveEntries, empty: Int
    ) {
        let length = members.map(\.range.count).max() ?? 0
        lengths.append(UInt32(length))
        for i in 0..<4 {
            rowNumbers.append(i < members.count ? UInt16(members[i].row) : UInt16(ESP_NO_ROW))
        }
        for j in 0..<length {
            for i in 0..<4 {
                let range = i < members.count ? members[i].range : 0..<0
                let isLive = j < range.count
                // What fills up reads what the row has read.
                let at = range.isEmpty ? nil : isLive ? range.lowerBound + j : range.upperBound - 1
                indices.append(UInt16(at.map { entries.column[$0] } ?? empty))
                canonical.append(isLive ? at.map { entries.place[$0] } ?? -1 : -1)
            }
        }
    }

    /// Groups of four neighbouring rows that share their entries.
    init(fours entries: LiveEntries, span: Int) {
        self.init(entries, span: span)
        let bounds = entries.bounds(span: span)
        for s in 0..<bounds.count - 1 {
            let before = lengths.count
            for first in stride(from: 0, to: rows, by: 4) {
                let members = Array(first..<min(first + 4, rows))
                var next = members.map { bounds[s][$0] }
                var length: UInt32 = 0
                // The columns that any of the rows has, in ascending order.
                while let column = members.indices.compactMap({ i in
                    next[i] < bounds[s + 1][members[i]] ? entries.column[next[i]] : nil
                }).min() {
                    indices.append(UInt16(column))
                    for i in 0..<4 {
                        let isLive =
                            i < members.count && next[i] < bounds[s + 1][members[i]]
                            && entries.column[next[i]] == column
                        canonical.append(isLive ? entries.place[next[i]] : -1)
                        if isLive { next[i] += 1 }
                    }
                    length += 1
                }
                if length == 0 && s > 0 { continue }
                lengths.append(length)
                for i in 0..<4 {
                    rowNumbers.append(UInt16(i < members.count ? first + i : ESP_NO_ROW))
                }
            }
            groups.append(UInt32(lengths.count - before))
        }
        finish(entries)
    }

    private mutating func finish(_ entries: LiveEntries) {
        var places = [Int32](repeating: -1, count: entries.column.count)
        for (at, place) in canonical.enumerated() where place >= 0 {
            places[Int(place)] = Int32(at)
        }
        self.places = places
    }

    /// The order with these values as C reads it.
    func withC(
        _ values: UnsafePointer<Float>?, _ body: (UnsafePointer<esp_f32_sparse>) -> Void
    ) {
        unsafe groups.withUnsafeBufferPointer { groups in
            unsafe lengths.withUnsafeBufferPointer { lengths in
                unsafe rowNumbers.withUnsafeBufferPointer { numbers in
                    unsafe indices.withUnsafeBufferPointer { indices in
                        var order = unsafe esp_f32_sparse(
                            outputs: rows, inputs: columns, spans: groups.count, span: span,
                            groups: groups.baseAddress, lengths: lengths.baseAddress,
                            rows: numbers.baseAddress, indices: indices.baseAddress, values: values)
                        unsafe body(&order)
                    }
                }
            }
        }
    }
}
