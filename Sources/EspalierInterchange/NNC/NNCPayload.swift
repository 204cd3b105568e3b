import EspalierTensors

/// A tensor as it lies in a unit's payload: integers, and the choices that its coding made.
struct NNCCodedTensor: Sendable {
    var name: String
    var role: NNCTensor.Role
    var dimensions: [Int]
    /// The quantization parameter, nil for integers.
    var qp: Int?
    var codebook: NNCCodebook?
    /// Whether it has the unit's entry points.
    var isScanned = false
    /// Codes after dependent quantization is undone, row-major; of a codebook, entry numbers less its zero.
    var codes: [Int32] = []
    /// The start index of each context that the stream holds one for.
    var starts: [UInt8] = []
    /// Whether positions that an update before has changed have contexts of their own.
    var usesHistory = false
    /// Which rows are skipped, where there is such a list.
    var skips: [UInt8]?

    var rows: Int { dimensions[0] }
    var width: Int { dimensions.dropFirst().reduce(1, *) }
    var count: Int { rows * width }

    /// Whether the stream has flags for skipping rows.
    func hasSkips(profile: Int) -> Bool {
        profile > 0 && width > 1 && rows > 1 && codebook?.entries.count != 1
    }
}

/// What a unit's header says of the tensors in its payload (6.2, 6.3).
extension NNCDataHeader {
    /// The tensors in the payload's order, without their codes.
    ///
    /// - Parameter limit: The most elements that they may have together.
    func tensors(limit: Int) throws(NNCError) -> [NNCCodedTensor] {
        var result: [NNCCodedTensor] = []
        var left = limit
        func add(
            _ name: String, _ role: NNCTensor.Role, _ dimensions: [Int], _ codebook: NNCCodebook?,
            isScanned: Bool = false
        ) throws(NNCError) {
            var size = 1
            for extent in dimensions {
                let (product, overflow) = size.multipliedReportingOverflow(by: extent)
                guard extent > 0, extent <= Int32.max, !overflow, product <= left else {
                    throw NNCError(
                        "'\(name)' of \(dimensions): more than the limit of \(limit) elements, or none"
                    )
                }
                size = product
            }
            left -= size
            result.append(
                NNCCodedTensor(
                    name: name, role: role, dimensions: dimensions, codebook: codebook,
                    isScanned: isScanned))
        }
        guard payload == .block else {
            let isPart = isDecomposed && payload == .floats
            if isPart, names[0].hasSuffix("_G") {
                try add(names[0], .left, [rowsOfG, rank], codebook, isScanned: true)
            } else if isPart, names[0].hasSuffix("_H") {
                try add(names[0], .right, [rank, columnsOfH()], codebook, isScanned: true)
            } else {
                try add(names[0], .tensor, dimensions, codebook, isScanned: true)
            }
            return result
        }
        let (hasScaling, hasNorm) = (parts & Parts.scaling != 0, parts & Parts.norm != 0)
        let hasBias = parts & Parts.bias != 0
        let weights = isDecomposed ? 2 : 1
        let companions = (hasScaling ? 1 : 0) + (hasNorm ? 4 : 0) + (hasBias ? 1 : 0)
        guard names.count == weights + companions else {
            throw NNCError("a block of \(weights + companions) tensors with \(names.count) names")
        }
        var place = weights
        func companion(_ role: NNCTensor.Role, at place: Int) throws(NNCError) {
            try add(names[place], role, [dimensions[0]], nil)
        }
        if hasScaling {
            try companion(.scaling, at: place)
            place += 1
        }
        if hasBias { try companion(.bias, at: names.count - 1) }
        if hasNorm {
            for role in [NNCTensor.Role.beta, .gamma, .mean, .variance] {
                try companion(role, at: place)
                place += 1
            }
        }
        if isDecomposed {
            try add(names[0], .left, [rowsOfG, rank], codebook, isScanned: true)
            try add(names[1], .right, [rank, columnsOfH()], secondCodebook, isScanned: true)
        } else {
            try add(names[0], .weight, dimensions, codebook, isScanned: true)
        }
        return result
    }

    private func columnsOfH() throws(NNCError) -> Int {
        var size = 1
        for extent in dimensions {
            let (product, overflow) = size.multipliedReportingOverflow(by: extent)
            guard !overflow else { throw NNCError("a decomposed tensor of \(dimensions)") }
            size = product
        }
        guard rowsOfG > 0, size % rowsOfG == 0 else {
            throw NNCError("a decomposed tensor of \(dimensions) in \(rowsOfG) rows")
        }
        return size / rowsOfG
    }
}
