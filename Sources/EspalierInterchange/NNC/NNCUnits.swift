/// Units of a stream (sections 3 and 4 of the format's description).
enum NNCUnits {
    /// What a unit holds.
    enum Kind: Int {
        case start, modelParameters, layerParameters, topology, quantization, data, aggregate
    }

    /// A unit's place: `content` begins behind the unit's own header.
    struct Place {
        let kind: Kind
        let content: Range<Int>
    }

    /// The units of a stream, which must fill it.
    static func places(_ bytes: [UInt8]) throws(NNCError) -> [Place] {
        var places: [Place] = []
        var start = 0
        while start < bytes.count {
            func fail(_ problem: String) -> NNCError {
                NNCError("unit \(places.count) at byte \(start): \(problem)")
            }
            guard bytes.count - start >= 4 else { throw fail("it is cut off") }
            var reader = NNCBitReader(bytes, start..<bytes.count)
            let size = try reader.flag() ? reader.bits(31) : reader.bits(15)
            guard size <= bytes.count - start, size >= (reader.bit - 8 * start) / 8 + 1 else {
                throw fail("a size of \(size) bytes, \(bytes.count - start) are there")
            }
            let number = try reader.bits(6)
            guard let kind = Kind(rawValue: number) else {
                throw fail("the unknown type \(number)")
            }
            _ = try reader.flag()
            if try reader.flag() {
                guard kind != .data else { throw fail("a part of a unit: this is not supported") }
                _ = try reader.bits(8)
            }
            guard reader.bit <= 8 * (start + size) else { throw fail("it is cut off") }
            places.append(Place(kind: kind, content: reader.bit >> 3..<start + size))
            start += size
        }
        return places
    }

    /// A whole unit.
    static func unit(_ kind: Kind, _ content: [UInt8]) -> [UInt8] {
        var writer = NNCBitWriter()
        let isLong = content.count + 3 > 32767
        writer.flag(isLong)
        writer.bits(content.count + (isLong ? 5 : 3), isLong ? 31 : 15)
        writer.bits(kind.rawValue, 6)
        writer.flag(true)
        writer.flag(false)
        return writer.bytes + content
    }
}

/// What the model parameter set says of the data units after it (4.2), and the profile.
struct NNCParameters: Sendable, Equatable {
    /// general_profile_idc, 0 or 1.
    var profile = 1
    /// Steps are powers of 2 to the 2^-density.
    var density = 2
    /// Added to each tensor's own parameter.
    var baseQP = 0
    /// Whether there is a topology unit.
    var hasTopology = true
    /// Bits of the methods in use; without any there are no steps.
    var methods = 1
    var hasParents = false
    var namesByIndex = false

    var hasQuantization: Bool { methods & 3 != 0 }

    init(profile: Int = 1) { self.profile = profile }

    /// The unit's content.
    init(_ reader: inout NNCBitReader, profile: Int) throws(NNCError) {
        self.profile = profile
        hasTopology = try reader.flag()
        var maps: [Bool] = []
        for _ in 0..<4 { maps.append(try reader.flag()) }
        methods = try reader.bits(3)
        namesByIndex = try reader.flag()
        var hasValidation = false
        if profile == 0 {
            _ = try reader.bits(7)
        } else {
            let hasBase = try reader.flag()
            hasValidation = try reader.flag()
            let hasMetric = try reader.flag()
            hasParents = try reader.flag()
            _ = try reader.bits(3)
            if hasBase { _ = try reader.text() }
            if hasValidation || hasMetric { _ = try reader.text() }
        }
        if hasQuantization {
            density = try reader.bits(3)
            baseQP = try reader.signedBits(13)
        }
        try NNCMaps.skip(maps, &reader)
        if hasValidation { _ = try reader.bits(32) }
        try reader.align()
    }

    var content: [UInt8] {
        var writer = NNCBitWriter()
        writer.flag(hasTopology)
        writer.bits(0, 4)
        writer.bits(methods, 3)
        writer.flag(namesByIndex)
        writer.bits(0, 3)
        writer.flag(profile > 0 && hasParents)
        writer.bits(0, 3)
        if hasQuantization {
            writer.bits(density, 3)
            writer.bits(baseQP, 13)
        }
        writer.align()
        return writer.bytes
    }
}

/// Performance maps, to step over (4.5).
enum NNCMaps {
    /// Those of the kinds sparsification, pruning, unification and decomposition whose flag is set.
    static func skip(_ flags: [Bool], _ reader: inout NNCBitReader) throws(NNCError) {
        for (kind, isThere) in flags.enumerated() where isThere {
            for _ in 0..<max(try reader.bits(8) - 1, 0) { try skipEntry(kind, &reader) }
        }
    }

    private static func skipEntry(_ kind: Int, _ reader: inout NNCBitReader) throws(NNCError) {
        if kind == 2 {
            let dimensions = try reader.golomb(1)
            guard dimensions <= 64 else { throw NNCError("a map of \(dimensions) dimensions") }
            for _ in 0..<max(dimensions - 1, 0) { _ = try reader.golomb(7) }
            try reader.align()
            for _ in 0..<2 { try floats(max(reader.bits(8) - 1, 0), 8, &reader) }
        }
        try floats([2, 2, 2, 3][kind], 32, &reader)
        let classes = try reader.bits(kind == 3 ? 16 : 8)
        let mask = kind == 3 ? 0 : try reader.golomb(7)
        try floats(kind == 2 ? mask : classes, 32, &reader)
    }

    private static func floats(
        _ count: Int, _ width: Int, _ reader: inout NNCBitReader
    ) throws(NNCError) {
        for _ in 0..<count { _ = try reader.bits(width) }
    }
}
