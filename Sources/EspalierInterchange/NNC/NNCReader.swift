public import EspalierCodec
public import EspalierTensors
import Synchronization

/// A stream of ISO/IEC 15938-17 (Neural Network Coding), read as a whole: named tensors in quantized form.
///
/// Profile 1, profile 0 and the first edition's software are read (docs/nnc.md). Streams are checked for their structure;
/// the format has no checksums, so that damage within values may go unseen.
public struct NNCReader: Sendable {
    /// How a stream is read.
    public struct Options: Sendable {
        /// The most elements that all tensors together may have: a few bytes can stand for any number of zeros.
        public var limit = 1 << 28
        /// Whether the parts of a tensor that has entry points are decoded side by side.
        public var usesEntryPoints = true
        package var leastForEntryPoints = 1 << 15

        public init() {}
    }

    /// The tensors in the stream's order; of those with one name the last counts.
    public let tensors: [NNCTensor]
    /// The general profile: 1, or 0 for the first edition.
    public var profile: Int { dialect.parameters.profile }
    /// Whether the first edition's software wrote it.
    public var isLegacy: Bool { dialect.isLegacy }

    let dialect: NNCDialect
    let headers: [NNCDataHeader]
    private let topology: [[UInt8]]
    private let changed: [Series: [UInt8]]
    private let places: [String: Int]

    private struct Series: Hashable {
        let device: Int
        let parameter: Int
    }

    /// Reads a file.
    ///
    /// - Parameter previous: The update before it, where the file is one of a series.
    /// - Throws: `FileError` that says what is wrong with it.
    public init(
        contentsOf path: String, after previous: NNCReader? = nil, options: Options = Options()
    ) throws(FileError) {
        let bytes = try FileAccess.read(path)
        do throws(NNCError) {
            try self.init(bytes, after: previous, options: options)
        } catch {
            throw FileError(path: path, "\(error.description); the file is damaged or not NNC")
        }
    }

    /// Reads a stream. Any byte string gives a value or an error.
    public init(
        _ bytes: [UInt8], after previous: NNCReader? = nil, options: Options = Options()
    ) throws(NNCError) {
        let units = try NNCUnits.places(bytes)
        guard let start = units.first, start.kind == .start, start.content.count == 1 else {
            throw NNCError("it does not begin with a start unit")
        }
        let profile = Int(bytes[start.content.lowerBound])
        guard profile < 2 else { throw NNCError("the unknown profile \(profile)") }
        var parameters: NNCParameters?
        var data: [Unit] = []
        var topology: [[UInt8]] = []
        var left = options.limit
        for unit in units.dropFirst() {
            var reader = NNCBitReader(bytes, unit.content)
            switch unit.kind {
            case .start: throw NNCError("a second start unit")
            case .modelParameters:
                guard data.isEmpty, parameters == nil else {
                    throw NNCError("a model parameter set behind data, or a second one")
                }
                parameters = try NNCParameters(&reader, profile: profile)
            case .topology: topology.append(Array(bytes[unit.content]))
            case .layerParameters, .quantization, .aggregate:
                throw NNCError("a unit of type \(unit.kind.rawValue): this is not supported")
            case .data:
                guard let parameters else { throw NNCError("data before the model parameter set") }
                let header = try NNCDataHeader(&reader, parameters)
                guard
                    header.payload == .integers || header.payload == .rawFloats
                        || parameters.hasQuantization
                else { throw NNCError("quantized data without a step") }
                let tensors = try header.tensors(limit: left)
                left -= tensors.reduce(0) { $0 + $1.count }
                let payload = reader.bit >> 3..<unit.content.upperBound
                if header.payload == .rawFloats, payload.count != 4 * tensors[0].count {
                    throw NNCError("'\(tensors[0].name)' has \(payload.count) bytes of floats")
                }
                data.append(Unit(header: header, tensors: tensors, payload: payload))
            }
        }
        guard let parameters else { throw NNCError("it has no model parameter set") }
        var dialect = NNCDialect(
            parameters: parameters, usesEntries: options.usesEntryPoints,
            leastForEntries: options.leastForEntryPoints)
        let decoded: [[NNCCodedTensor]]
        do throws(NNCError) {
            decoded = try NNCReader.decode(bytes, data, dialect, previous)
        } catch {
            // Nothing in a stream tells the first software's from other ones of profile 0.
            guard profile == 0 else { throw error }
            let first = error
            dialect.isLegacy = true
            do throws(NNCError) {
                decoded = try NNCReader.decode(bytes, data, dialect, previous)
            } catch { throw first }
        }
        self.dialect = dialect
        self.topology = topology
        headers = data.map(\.header)
        tensors = zip(data.indices, zip(data, decoded)).flatMap { index, pair in
            pair.1.map { NNCReader.tensor($0, pair.0, index, parameters, bytes) }
        }
        places = Dictionary(
            zip(tensors.map(\.name), tensors.indices), uniquingKeysWith: { $1 })
        changed = NNCReader.changed(tensors, after: previous)
    }

    /// A data unit before its payload is decoded.
    private struct Unit {
        let header: NNCDataHeader
        let tensors: [NNCCodedTensor]
        let payload: Range<Int>
    }

    // Units do not depend on each other.
    private static func decode(
        _ bytes: [UInt8], _ units: [Unit], _ dialect: NNCDialect, _ previous: NNCReader?
    ) throws(NNCError) -> [[NNCCodedTensor]] {
        let results = Mutex(
            [Result<[NNCCodedTensor], NNCError>?](repeating: nil, count: units.count))
        ThreadPool.shared.forEachChunk(units.count) { index in
            let unit = units[index]
            let result: Result<[NNCCodedTensor], NNCError>
            do throws(NNCError) {
                var decoder = NNCPayloadDecoder(
                    unit.header, dialect, past: previous?.past(of: unit.header))
                result = .success(
                    unit.header.payload == .rawFloats
                        ? unit.tensors
                        : try decoder.decode(Array(bytes[unit.payload]), unit.tensors))
            } catch { result = .failure(error) }
            results.withLock { $0[index] = result }
        }
        var decoded: [[NNCCodedTensor]] = []
        for result in results.withLock({ $0 }) {
            guard let result else { continue }
            let tensors = try result.get()
            for tensor in tensors { try checkEntries(tensor) }
            decoded.append(tensors)
        }
        return decoded
    }

    // In profile 0 a codebook does not bound the values.
    private static func checkEntries(_ tensor: NNCCodedTensor) throws(NNCError) {
        guard let codebook = tensor.codebook else { return }
        let range = Int32(-codebook.zero)..<Int32(codebook.entries.count - codebook.zero)
        guard tensor.codes.allSatisfy(range.contains) else {
            throw NNCError("'\(tensor.name)' has values that its codebook has not")
        }
    }

    private static func tensor(
        _ coded: NNCCodedTensor, _ unit: Unit, _ index: Int, _ parameters: NNCParameters,
        _ bytes: [UInt8]
    ) -> NNCTensor {
        let header = unit.header
        let content: NNCTensor.Content =
            switch header.payload {
            case .integers: .integers
            case .rawFloats:
                .raw(
                    stride(from: unit.payload.lowerBound, to: unit.payload.upperBound, by: 4).map {
                        place in
                        let word = (0..<4).reduce(0 as UInt32) {
                            $0 | UInt32(bytes[place + $1]) << (8 * UInt32($1))
                        }
                        return Float(bitPattern: word)
                    })
            case .floats, .block: .steps(density: parameters.density)
            }
        return NNCTensor(
            name: coded.name, shape: Shape(coded.dimensions), role: coded.role,
            format: header.format.flatMap(NNCTensor.Format.init),
            isDependent: header.isDependent && coded.codebook == nil, coded: coded,
            content: content, unit: index, node: header.node)
    }
}

// MARK: - Tensors

extension NNCReader {
    /// The tensor of a name.
    public subscript(name: String) -> NNCTensor? { places[name].map { tensors[$0] } }

    /// The tensors with blocks resolved: weights times their scaling, which is gone then (6.3).
    public var unfolded: [NNCTensor.Unfolded] {
        var scalings: [Int: Tensor] = [:]
        for tensor in tensors where tensor.role == .scaling {
            scalings[tensor.unit] = tensor.floats
        }
        return tensors.filter { $0.role != .scaling }.map { tensor in
            var floats = tensor.floats
            if tensor.role == .weight, let scaling = scalings[tensor.unit] {
                var values = floats.elements
                let factors = scaling.elements
                let size = values.count / factors.count
                for index in values.indices { values[index] *= factors[index / size] }
                floats = Tensor(values, shape: floats.shape)
            }
            return NNCTensor.Unfolded(name: tensor.name, floats: floats)
        }
    }

    /// What a unit of the next update in a series builds on.
    func past(of header: NNCDataHeader) -> NNCPast? {
        guard let parent = header.parent, parent.kind == 0, let parameter = header.node?.parameter
        else { return nil }
        let device = header.node?.device ?? parent.device
        let codes = tensors.last {
            $0.node?.device == device && $0.node?.parameter == parameter
        }
        return NNCPast(
            codes: codes?.coded.codes,
            changed: changed[Series(device: device, parameter: parameter)])
    }

    private static func changed(
        _ tensors: [NNCTensor], after previous: NNCReader?
    ) -> [Series: [UInt8]] {
        var changed = previous?.changed ?? [:]
        for tensor in tensors where tensor.role == .tensor {
            guard let node = tensor.node, node.depth > 0 else { continue }
            let key = Series(device: node.device, parameter: node.parameter)
            let now = tensor.coded.codes.map { $0 == 0 ? 0 : 1 as UInt8 }
            let before = changed[key]
            changed[key] = before?.count == now.count ? zip(before ?? [], now).map(|) : now
        }
        return changed
    }
}

extension NNCReader {
    /// The stream, made again from what was read: the same bytes, for a stream of the usual units.
    package func encodedAgain(after previous: NNCReader? = nil) throws(NNCError) -> [UInt8] {
        var bytes = NNCUnits.unit(.start, [UInt8(profile)])
        bytes += NNCUnits.unit(.modelParameters, dialect.parameters.content)
        for content in topology { bytes += NNCUnits.unit(.topology, content) }
        for (index, header) in headers.enumerated() {
            let parts = tensors.filter { $0.unit == index }
            if header.payload == .rawFloats {
                var content = header.encoded(dialect.parameters)
                for value in parts[0].floats.elements {
                    for shift in stride(from: 0, to: 32 as UInt32, by: 8) {
                        content.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
                    }
                }
                bytes += NNCUnits.unit(.data, content)
            } else {
                bytes += try NNCPayloadEncoder(header, dialect, past: previous?.past(of: header))
                    .unit(parts.map(\.coded))
            }
        }
        return bytes
    }
}

extension NNCTensor {
    /// A tensor's floats after blocks are resolved.
    public struct Unfolded: Sendable {
        /// Its name.
        public let name: String
        /// Its values.
        public let floats: Tensor
    }
}
