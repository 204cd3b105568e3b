/// The values that the numbers of a tensor are, in steps and rising (5.3).
struct NNCCodebook: Sendable, Equatable {
    /// The order of the codes of its gaps, 0...15.
    var order: Int
    var entries: [Int32]
    /// The entry that is coded as 0.
    var zero: Int

    static let maximumSize = 1 << 20

    init(order: Int, entries: [Int32], zero: Int) {
        (self.order, self.entries, self.zero) = (order, entries, zero)
    }

    init(_ reader: inout NNCBitReader) throws(NNCError) {
        order = try reader.bits(4)
        let size = try reader.golomb(2)
        let (offset, middle) = (try reader.signedGolomb(2), size >> 1)
        zero = middle + offset
        guard (1...NNCCodebook.maximumSize).contains(size), (0..<size).contains(zero) else {
            throw NNCError("a codebook of \(size) entries, of which \(zero) is coded as 0")
        }
        let start = try reader.signedGolomb(7)
        var below: [Int32] = []
        var value = start
        func entry() throws(NNCError) -> Int32 {
            guard let entry = Int32(exactly: value) else {
                throw NNCError("an entry of a codebook beyond 32 bits")
            }
            return entry
        }
        let first = try entry()
        for _ in 0..<zero {
            value -= try reader.golomb(order) + 1
            below.append(try entry())
        }
        value = start
        entries = below.reversed() + [first]
        for _ in zero + 1..<max(size, zero + 1) {
            value += try reader.golomb(order) + 1
            entries.append(try entry())
        }
    }

    /// A codebook of these entries, with the shortest code for its gaps.
    ///
    /// - Precondition: they rise, and there is one at least.
    init(_ entries: [Int32], zero: Int) {
        self.init(order: 0, entries: entries, zero: zero)
        let gaps = zip(entries.dropFirst(), entries).map { Int($0) - Int($1) - 1 }
        let lengths = (0...15).map { order in
            gaps.reduce(0) { $0 + NNCBitWriter.golombLength($1, order) }
        }
        order = lengths.indices.min { lengths[$0] < lengths[$1] } ?? 0
    }

    func write(_ writer: inout NNCBitWriter) {
        writer.bits(order, 4)
        writer.golomb(entries.count, 2)
        writer.signedGolomb(zero - entries.count >> 1, 2)
        writer.signedGolomb(Int(entries[zero]), 7)
        for index in (0..<zero).reversed() {
            writer.golomb(Int(entries[index + 1]) - Int(entries[index]) - 1, order)
        }
        for index in entries.indices.dropFirst(zero + 1) {
            writer.golomb(Int(entries[index]) - Int(entries[index - 1]) - 1, order)
        }
    }
}
