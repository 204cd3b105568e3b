import EspalierTensors

/// The header of a compressed data unit (section 5).
struct NNCDataHeader: Sendable, Equatable {
    /// nnr_compressed_data_unit_payload_type.
    enum Payload: Int, Sendable { case integers, floats, rawFloats, block }

    /// Parts of a block, as bits of compressed_parameter_types.
    enum Parts {
        static let decomposed = 1
        static let scaling = 2
        static let norm = 4
        static let bias = 8
    }

    /// Where a tensor stands in a series of updates.
    struct Node: Sendable, Hashable {
        var device: Int
        var parameter: Int
        var depth: Int
    }

    /// The node that an update starts from.
    struct Parent: Sendable, Equatable {
        var kind = 0
        var isTemporal = false
        var device = 0
        /// Where the unit has no node of its own.
        var node: (parameter: Int, depth: Int)?
        var hash: [UInt8] = []

        static func == (a: Parent, b: Parent) -> Bool {
            a.kind == b.kind && a.isTemporal == b.isTemporal && a.device == b.device
                && a.node?.parameter == b.node?.parameter && a.node?.depth == b.node?.depth
                && a.hash == b.hash
        }
    }

    /// A place in the payload where a block row begins (5.4, 11.3).
    struct Entry: Sendable, Equatable {
        var value: Int
        var state: Int
        /// Bits since the block row before.
        var offset: Int
    }

    var payload = Payload.floats
    var isMultiple = false
    /// nnr_decompressed_data_format: the element type that the values had.
    var format: Int?
    var names: [String] = []
    var node: Node?
    var parent: Parent?
    var codebook: NNCCodebook?
    var secondCodebook: NNCCodebook?
    var isDependent = false
    /// Whether dimensions and the lines after them are there.
    var hasParameters = true
    var hasDimensions = true
    /// cabac_unary_length_minus1, where it is there.
    var greaterLessOne: Int? = 10
    var parts = 0
    var rank = 0
    var rowsOfG = 0
    var dimensions: [Int] = []
    var scanOrder = 0
    var entries: [Entry] = []

    /// Greater-than flags of a value.
    var greater: Int { (greaterLessOne ?? 9) + 1 }
    var isDecomposed: Bool { parts & Parts.decomposed != 0 }

    init() {}

    /// Reads a header; the reader stands at the payload then.
    init(_ reader: inout NNCBitReader, _ parameters: NNCParameters) throws(NNCError) {
        let kind = try reader.bits(5)
        guard let payload = Payload(rawValue: kind) else {
            throw NNCError("the unknown payload type \(kind)")
        }
        self.payload = payload
        isMultiple = try reader.flag()
        guard isMultiple == (payload == .block) else {
            throw NNCError("a tensor in several units, or a block that is one tensor")
        }
        let hasFormat = try reader.flag()
        hasParameters = try reader.flag()
        try readNames(&reader, parameters)
        try readNode(&reader, parameters)
        let mayHaveCodebook = payload == .floats || payload == .block
        let hasCodebook = mayHaveCodebook ? try reader.flag() : false
        if hasCodebook { codebook = try NNCCodebook(&reader) }
        if payload != .rawFloats {
            let flag = try reader.flag()
            isDependent = flag && payload != .integers && codebook == nil
        }
        if hasFormat { format = try reader.bits(7) }
        try readShape(&reader, parameters, hasCodebook: hasCodebook)
        try reader.align()
    }

    private mutating func readNames(
        _ reader: inout NNCBitReader, _ parameters: NNCParameters
    ) throws(NNCError) {
        let count = try isMultiple ? reader.golomb(7) + 2 : 1
        if isMultiple, !parameters.namesByIndex { try reader.align() }
        for _ in 0..<count {
            if parameters.namesByIndex {
                names.append("\(try reader.golomb(7))")
            } else {
                names.append(try reader.text())
            }
        }
        if isMultiple, parameters.namesByIndex { try reader.align() }
    }

    private mutating func readNode(
        _ reader: inout NNCBitReader, _ parameters: NNCParameters
    ) throws(NNCError) {
        guard parameters.profile > 0 else { return }
        if try reader.flag() {
            node = Node(
                device: try reader.golomb(1), parameter: try reader.golomb(5),
                depth: try reader.golomb(4))
        }
        guard parameters.hasParents, try reader.flag() else { return }
        var parent = Parent()
        parent.kind = try reader.bits(2)
        parent.isTemporal = try reader.flag()
        switch parent.kind {
        case 0:
            parent.device = try reader.golomb(1)
            if node == nil { parent.node = (try reader.golomb(5), try reader.golomb(4)) }
        case 1, 2: parent.hash = try reader.wholeBytes(32 * parent.kind)
        default: throw NNCError("the unknown kind \(parent.kind) of a parent")
        }
        self.parent = parent
    }

    private mutating func readShape(
        _ reader: inout NNCBitReader, _ parameters: NNCParameters, hasCodebook: Bool
    ) throws(NNCError) {
        if hasParameters {
            hasDimensions = try reader.flag()
            let hasUnary = try reader.flag()
            parts = try reader.bits(4)
            if isDecomposed {
                rank = try reader.golomb(3)
                rowsOfG = try reader.golomb(3)
            }
            if hasDimensions {
                let count = try reader.golomb(1)
                guard (1...Shape.maximumRank).contains(count) else {
                    throw NNCError("a tensor of \(count) dimensions")
                }
                for _ in 0..<count { dimensions.append(try reader.golomb(7)) }
            }
            greaterLessOne = hasUnary ? try reader.bits(8) : nil
        } else {
            (hasDimensions, greaterLessOne) = (false, nil)
        }
        if payload == .block, isDecomposed, hasCodebook {
            secondCodebook = try NNCCodebook(&reader)
        }
        guard hasDimensions else { throw NNCError("a tensor without dimensions") }
        guard dimensions.count > 1 else { return }
        if parameters.profile > 0, try reader.golomb(1) != 0 {
            throw NNCError("a tensor with another first dimension: this is not supported")
        }
        scanOrder = try reader.bits(4)
        guard scanOrder <= 4 else { throw NNCError("the unknown scan order \(scanOrder)") }
        try readEntries(&reader)
    }

    private mutating func readEntries(_ reader: inout NNCBitReader) throws(NNCError) {
        for rows in entryCounts {
            for _ in 0..<rows {
                let value = try reader.bits(8)
                let state = try isDependent ? reader.bits(3) : 0
                let offset: Int
                if let last = entries.last {
                    offset = last.offset + (try reader.signedGolomb(7))
                } else {
                    offset = try reader.golomb(11)
                }
                entries.append(Entry(value: value, state: state, offset: offset))
            }
        }
    }

    /// The entry points of each matrix that has some (5.4).
    var entryCounts: [Int] {
        guard scanOrder > 0, dimensions.count > 1 else { return [] }
        let side = 4 << scanOrder
        let rows = isDecomposed && payload == .block ? [rowsOfG, rank] : [dimensions[0]]
        return rows.map { max(($0 + side - 1) / side - 1, 0) }
    }

    /// The header's bytes.
    func encoded(_ parameters: NNCParameters) -> [UInt8] {
        var writer = NNCBitWriter()
        writer.bits(payload.rawValue, 5)
        writer.flag(isMultiple)
        writer.flag(format != nil)
        writer.flag(hasParameters)
        if isMultiple {
            writer.golomb(names.count - 2, 7)
            writer.align()
        }
        for name in names { writer.text(name) }
        writeNode(&writer, parameters)
        if payload == .floats || payload == .block {
            writer.flag(codebook != nil)
            codebook?.write(&writer)
        }
        if payload != .rawFloats { writer.flag(isDependent) }
        if let format { writer.bits(format, 7) }
        if hasParameters {
            writer.flag(hasDimensions)
            writer.flag(greaterLessOne != nil)
            writer.bits(parts, 4)
            if isDecomposed {
                writer.golomb(rank, 3)
                writer.golomb(rowsOfG, 3)
            }
            if hasDimensions {
                writer.golomb(dimensions.count, 1)
                for extent in dimensions { writer.golomb(extent, 7) }
            }
            if let greaterLessOne { writer.bits(greaterLessOne, 8) }
        }
        secondCodebook?.write(&writer)
        if dimensions.count > 1 {
            if parameters.profile > 0 { writer.golomb(0, 1) }
            writer.bits(scanOrder, 4)
            writeEntries(&writer)
        }
        writer.align()
        return writer.bytes
    }

    private func writeNode(_ writer: inout NNCBitWriter, _ parameters: NNCParameters) {
        guard parameters.profile > 0 else { return }
        writer.flag(node != nil)
        if let node {
            writer.golomb(node.device, 1)
            writer.golomb(node.parameter, 5)
            writer.golomb(node.depth, 4)
        }
        guard parameters.hasParents else { return }
        writer.flag(parent != nil)
        guard let parent else { return }
        writer.bits(parent.kind, 2)
        writer.flag(parent.isTemporal)
        writer.wholeBytes(parent.hash)
        guard parent.kind == 0 else { return }
        writer.golomb(parent.device, 1)
        if let node = parent.node {
            writer.golomb(node.parameter, 5)
            writer.golomb(node.depth, 4)
        }
    }

    private func writeEntries(_ writer: inout NNCBitWriter) {
        var last: Int?
        for entry in entries {
            writer.bits(entry.value, 8)
            if isDependent { writer.bits(entry.state, 3) }
            if let last {
                writer.signedGolomb(entry.offset - last, 7)
            } else {
                writer.golomb(entry.offset, 11)
            }
            last = entry.offset
        }
    }
}
