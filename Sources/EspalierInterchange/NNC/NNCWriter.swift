public import EspalierCodec
public import EspalierTensors
import Synchronization

/// Collects tensors and writes them as a stream of ISO/IEC 15938-17, profile 1, which the public package nncodec decodes.
///
/// Floats are quantized, integers stay as they are. The same content gives the same bytes.
public struct NNCWriter: Sendable {
    /// How tensors are quantized and coded.
    public struct Options: Sendable {
        /// The quantization parameter of floats of two or more dimensions: four more double the step, 0 is a step of 1.
        public var qp = -38
        /// That of vectors.
        public var vectorQP = -75
        /// Whether floats go through the trellis of dependent quantization.
        public var isDependent = true
        /// The weight of bits against errors when floats are quantized; 0 looks at errors only, and is faster.
        public var lambda = 0.0
        /// 0 goes row by row, 1 to 4 through blocks of 8 to 64, whose rows can be decoded side by side.
        public var scanOrder = 0
        /// Flags of a value before its remainder, 1 to 256.
        public var greaterFlags = 11
        /// Whether rows of zeros are left out.
        public var skipsRows = true
        /// The values of a tensor that the contexts' start indices are chosen by; 0 chooses none.
        public var searchLimit = 1 << 15

        public init() {}
    }

    /// Where a tensor's numbers come from.
    private enum Values: Sendable {
        case floats(Tensor, qp: Int)
        case multiples([Int32], qp: Int)
        case integers([Int32], NNCTensor.Format?)
        case codebook([Int32], entries: [Int32], qp: Int)
    }

    private struct Item: Sendable {
        let name: String
        let dimensions: [Int]
        let values: Values
        let options: Options
    }

    /// How the tensors that are added from now on are written.
    public var options: Options
    private var items: [Item] = []
    private var names: Set<String> = []
    /// The quantization parameter that the stream's own ones count from.
    private let baseQP: Int

    /// A stream without tensors.
    ///
    /// - Parameter baseQP: Parameters lie from 128 below it to 127 above it.
    public init(options: Options = Options(), baseQP: Int = 0) {
        require((-4096...4095).contains(baseQP), "a quantization parameter of \(baseQP)")
        (self.options, self.baseQP) = (options, baseQP)
    }

    /// Adds floats, to be quantized.
    ///
    /// - Parameter qp: The quantization parameter, by default that of the options.
    /// - Throws: `NNCError` where a name or a number cannot be written.
    public mutating func add(_ name: String, _ tensor: Tensor, qp: Int? = nil) throws(NNCError) {
        guard tensor.layout == .rowMajor, tensor.firstNonFinite == nil else {
            throw NNCError("tensor '\(name)' has values that are not finite")
        }
        let qp = try checked(
            qp ?? (tensor.shape.rank > 1 ? options.qp : options.vectorQP), name)
        try append(name, tensor.shape, .floats(tensor, qp: qp))
    }

    /// Adds integers, which stay as they are.
    ///
    /// - Parameter format: The element type that they had, as a hint to readers.
    /// - Throws: `NNCError` where a name or a number cannot be written.
    public mutating func add(
        _ name: String, integers: IndexTensor, format: NNCTensor.Format? = nil
    ) throws(NNCError) {
        try check(integers.elements, name)
        try append(name, integers.shape, .integers(integers.elements, format))
    }

    /// Adds floats that are multiples of a step, which stay as they are: dependent quantization is off.
    ///
    /// - Throws: `NNCError` where a name or a number cannot be written.
    public mutating func add(
        _ name: String, multiples: IndexTensor, qp: Int
    ) throws(NNCError) {
        try check(multiples.elements, name)
        try append(name, multiples.shape, .multiples(multiples.elements, qp: checked(qp, name)))
    }

    /// Adds floats that are exact: each is a multiple of the smallest one's last place.
    ///
    /// - Throws: `NNCError` where that step does not exist, or a number would need more than 31 bits.
    public mutating func add(_ name: String, exact tensor: Tensor) throws(NNCError) {
        let elements = tensor.elements
        // The lowest bit that any of them has.
        let lowest =
            elements.filter { $0 != 0 }.map { value in
                value.isNormal || value.isSubnormal
                    ? Int(value.ulp.exponent) + value.significandTrailing : Int.min
            }.min() ?? 0
        guard lowest > -1000 else {
            throw NNCError("tensor '\(name)' has values that are not finite")
        }
        var multiples: [Int32] = []
        for value in elements {
            let scaled = Double(value) * Double(sign: .plus, exponent: -lowest, significand: 1)
            guard let whole = Int32(exactly: scaled), whole != .min else {
                throw NNCError("tensor '\(name)' cannot be written exactly")
            }
            multiples.append(whole)
        }
        try add(
            name, multiples: IndexTensor(multiples, shape: tensor.shape), qp: 4 * lowest)
    }

    /// Adds floats that are few different multiples of a step, by a codebook.
    ///
    /// - Throws: `NNCError` where a name or a number cannot be written.
    public mutating func add(
        _ name: String, codebookMultiples: IndexTensor, qp: Int
    ) throws(NNCError) {
        try check(codebookMultiples.elements, name)
        let entries = Set(codebookMultiples.elements).sorted()
        guard entries.count <= NNCCodebook.maximumSize else {
            throw NNCError("tensor '\(name)' has \(entries.count) different values")
        }
        try append(
            name, codebookMultiples.shape,
            .codebook(codebookMultiples.elements, entries: entries, qp: checked(qp, name)))
    }

    private func checked(_ qp: Int, _ name: String) throws(NNCError) -> Int {
        guard (-128...127).contains(qp - baseQP) else {
            throw NNCError("tensor '\(name)': a quantization parameter of \(qp)")
        }
        return qp
    }

    private func check(_ integers: [Int32], _ name: String) throws(NNCError) {
        guard !integers.contains(.min) else {
            throw NNCError("tensor '\(name)' holds -2^31, for which the format has no code")
        }
    }

    private mutating func append(_ name: String, _ shape: Shape, _ values: Values) throws(NNCError)
    {
        guard !name.utf8.contains(0), names.insert(name).inserted else {
            throw NNCError("two tensors are named '\(name)', or the name has a zero byte")
        }
        guard !name.hasSuffix("_G"), !name.hasSuffix("_H") else {
            throw NNCError(
                "tensor '\(name)': readers take a name that ends in _G or _H for half of a product; rename it"
            )
        }
        // The format has no rank 0.
        let dimensions = shape.isEmpty ? [1] : Array(shape)
        guard !dimensions.contains(0) else { throw NNCError("tensor '\(name)' has no elements") }
        require(
            (0...4).contains(options.scanOrder) && (1...256).contains(options.greaterFlags),
            "NNC options beyond what the format has")
        items.append(Item(name: name, dimensions: dimensions, values: values, options: options))
    }

    /// The stream.
    ///
    /// - Throws: `NNCError` where a number does not fit 31 bits at any step.
    public func encoded() throws(NNCError) -> [UInt8] {
        var parameters = NNCParameters()
        parameters.baseQP = baseQP
        let dialect = NNCDialect(parameters: parameters)
        let results = Mutex([Result<[UInt8], NNCError>?](repeating: nil, count: items.count))
        ThreadPool.shared.forEachChunk(items.count) { index in
            let result: Result<[UInt8], NNCError>
            do throws(NNCError) {
                result = .success(try NNCWriter.unit(items[index], index, dialect))
            } catch { result = .failure(error) }
            results.withLock { $0[index] = result }
        }
        var bytes = NNCUnits.unit(.start, [1])
        bytes += NNCUnits.unit(.modelParameters, parameters.content)
        bytes += NNCUnits.unit(.topology, [0, 0, 0])
        for result in results.withLock({ $0 }) {
            if let result { bytes += try result.get() }
        }
        return bytes
    }

    /// Writes the file in one step: the old one stays until the new one is complete.
    ///
    /// - Throws: `FileError` where it cannot be written.
    public func write(to path: String) throws(FileError) {
        let bytes: [UInt8]
        do throws(NNCError) {
            bytes = try encoded()
        } catch { throw FileError(path: path, error.description) }
        try FileAccess.writeAtomically(bytes, to: path)
    }

    private static func unit(
        _ item: Item, _ index: Int, _ dialect: NNCDialect
    ) throws(NNCError) -> [UInt8] {
        let options = item.options
        var header = NNCDataHeader()
        header.names = [item.name]
        header.node = NNCDataHeader.Node(device: 0, parameter: index, depth: 0)
        header.dimensions = item.dimensions
        header.greaterLessOne = options.greaterFlags - 1
        var tensor = NNCCodedTensor(
            name: item.name, role: .tensor, dimensions: item.dimensions, isScanned: true)
        if item.dimensions.count > 1, tensor.rows > 1, tensor.width > 1 {
            header.scanOrder = options.scanOrder
        }
        switch item.values {
        case .integers(let values, let format):
            (header.payload, header.format) = (.integers, format?.rawValue)
            tensor.codes = values
        case .multiples(let values, let qp): (tensor.codes, tensor.qp) = (values, qp)
        case .codebook(let values, let entries, let qp):
            tensor.qp = qp
            tensor.codebook = NNCWriter.index(values, entries, &tensor)
            header.codebook = tensor.codebook
        case .floats(let floats, let qp):
            header.isDependent = options.isDependent
            let quantizer = NNCQuantizer(header, dialect)
            // Values that are too large for a step get a larger one.
            for qp in qp...127 + dialect.parameters.baseQP {
                let step = NNCStep.size(qp: qp, density: dialect.parameters.density)
                tensor.qp = qp
                guard
                    let codes = try quantizer.codes(
                        floats, of: tensor, step: step, lambda: options.lambda)
                else { continue }
                tensor.codes = codes
                break
            }
            guard !tensor.codes.isEmpty else {
                throw NNCError("tensor '\(item.name)' has values that no step fits")
            }
        }
        // Whole rows advance the states of dependent quantization even where a block has but a part of one.
        let maySkip = !header.isDependent || header.scanOrder == 0 || tensor.width % 4 == 0
        if options.skipsRows, maySkip, tensor.hasSkips(profile: 1) {
            tensor.skips = tensor.zeroRows
        }
        tensor.starts = try NNCQuantizer(header, dialect).starts(
            tensor.levels(isDependent: header.isDependent), of: tensor,
            limit: options.searchLimit)
        return try NNCPayloadEncoder(header, dialect).unit([tensor])
    }

    // The most frequent entry is coded as 0.
    private static func index(
        _ values: [Int32], _ entries: [Int32], _ tensor: inout NNCCodedTensor
    ) -> NNCCodebook {
        let places = Dictionary(uniqueKeysWithValues: zip(entries, entries.indices))
        var counts = [Int](repeating: 0, count: entries.count)
        let indices = values.map { places[$0] ?? 0 }
        for index in indices { counts[index] += 1 }
        let zero = counts.indices.max { counts[$0] < counts[$1] } ?? 0
        tensor.codes = indices.map { Int32($0 - zero) }
        return NNCCodebook(entries, zero: zero)
    }
}

extension Float {
    /// Zero bits at the end of the significand, beginning with the last place.
    fileprivate var significandTrailing: Int {
        self == 0 ? 0 : min(significandBitPattern.trailingZeroBitCount, 23)
    }
}
