import EspalierKernels
import EspalierTensors

/// Bytes that a reader takes parts of: a file, or memory.
public protocol ByteSource {
    /// How many there are.
    var count: Int { get }
    /// Some of them, or nil where they cannot be read.
    func read(_ range: Range<Int>) -> [UInt8]?
}

extension [UInt8]: ByteSource {
    public func read(_ range: Range<Int>) -> [UInt8]? {
        range.lowerBound >= 0 && range.upperBound <= count ? Array(self[range]) : nil
    }
}

/// A file of layers: opened by its headers alone, read layer by layer.
///
/// Any byte string gives a value or a `ContainerError`, and nothing is allocated that the file is too short for.
public struct ContainerReader<Source: ByteSource> {
    /// A layer's headers.
    public struct Layer: Sendable, Hashable {
        /// Without data.
        public let header: ContainerNetwork.Layer
        /// Where each sub-layer lies in the file.
        public let places: [Range<Int>]
        let checksums: [UInt32]
        let extent: Range<Int>
        let checksum: UInt32
    }

    /// The layers in the order of the file, which is one in which inputs come first.
    public let layers: [Layer]
    /// Facts about the network.
    public let fields: [ContainerField]
    /// Whether each layer reads just the one before it.
    public let isSequential: Bool
    private let source: Source

    /// Reads the headers of a file.
    ///
    /// - Parameter knownFields: Tags that the caller understands; a critical one beside them refuses the file.
    /// - Throws: `ContainerError`.
    public init(_ source: Source, knownFields: Set<UInt16> = []) throws(ContainerError) {
        func fail(_ problem: String) -> ContainerError { ContainerError(.networkHeader, problem) }
        guard source.count >= ContainerLayout.networkHeaderBytes,
            let fixed = source.read(0..<ContainerLayout.networkHeaderBytes)
        else { throw fail("\(source.count) bytes are too few") }
        var reader = ByteReader(fixed[...])
        guard reader.take(4).map(Array.init) == ContainerLayout.magic else {
            throw fail("it does not begin with ESPL")
        }
        let (major, minor) = (reader.number(UInt16.self) ?? 0, reader.number(UInt16.self) ?? 0)
        let (headerBytes, flags) = (
            Int(reader.number(UInt32.self) ?? 0), reader.number(UInt32.self) ?? 0
        )
        let (layerCount, subLayerCount) = (
            Int(reader.number(UInt32.self) ?? 0), Int(reader.number(UInt32.self) ?? 0)
        )
        let places = (0..<3).map { _ in reader.number(UInt64.self) ?? 0 }
        let (profile, quantization) = (
            reader.number(UInt32.self) ?? 0, reader.number(UInt32.self) ?? 0
        )
        let (crc, layersCRC) = (reader.number(UInt32.self) ?? 0, reader.number(UInt32.self) ?? 0)
        guard headerBytes >= fixed.count, headerBytes <= source.count, headerBytes % 8 == 0,
            let extra = source.read(fixed.count..<headerBytes)
        else { throw fail("a header of \(headerBytes) bytes in a file of \(source.count)") }
        guard Kernels.crc32c((Array(fixed[0..<56]) + extra).span) == crc else {
            throw fail("its checksum does not match")
        }
        guard major == ContainerLayout.major else {
            throw fail("version \(major).\(minor); this program reads version 1")
        }
        guard flags & ~ContainerLayout.graphFlag == 0, profile == 0, quantization == 0 else {
            throw fail("it needs a newer program: flags \(flags), profile \(profile)")
        }
        guard let fields = ContainerField.read(extra[...]) else {
            throw fail("its fields are damaged")
        }
        if let unknown = fields.first(where: { $0.isCritical && !knownFields.contains($0.tag) }) {
            throw fail("its field \(unknown.tag) is critical and not known here")
        }
        guard places[0] == UInt64(headerBytes), places[1] >= places[0],
            places[2] == UInt64(source.count),

            places[1] % UInt64(ContainerLayout.dataAlignment) == 0
        else {
            throw fail("its places \(places) do not fit a file of \(source.count) bytes")
        }
        let end = min(Int(clamping: places[1]), source.count)
        guard let headers = source.read(headerBytes..<end) else { throw fail("it cannot be read") }
        self.source = source
        self.fields = fields
        isSequential = flags == 0
        layers = try ContainerReader.layers(
            headers, count: layerCount, subLayers: subLayerCount, crc: layersCRC,
            fileSize: source.count,
            dataStart: Int(clamping: places[1]))
        try checkTopology()
    }

    /// The data of one layer; nothing of any other is touched.
    ///
    /// - Throws: `ContainerError` where they are damaged, or there is no such layer.
    public func layer(_ id: UInt32) throws(ContainerError) -> ContainerNetwork.Layer {
        guard let layer = layers.first(where: { $0.header.id == id }) else {
            throw ContainerError(.layer(id), "there is none of this id")
        }
        var result = layer.header
        guard !layer.extent.isEmpty else { return result }
        guard let data = source.read(layer.extent) else {
            throw ContainerError(.layer(id), "its data cannot be read")
        }
        guard Kernels.crc32c(data.span) == layer.checksum else {
            throw ContainerError(.layer(id), "the checksum of its data does not match")
        }
        for (index, place) in layer.places.enumerated() where !place.isEmpty {
            let start = place.lowerBound - layer.extent.lowerBound
            let part = Array(data[start..<start + place.count])
            guard Kernels.crc32c(part.span) == layer.checksums[index] else {
                throw ContainerError(
                    .layer(id), "the checksum of its tensor \(index) does not match")
            }
            result.subLayers[index].data = part
        }
        return result
    }

    /// The whole network.
    ///
    /// - Throws: `ContainerError` with the first damaged part.
    public func network() throws(ContainerError) -> ContainerNetwork {
        var whole: [ContainerNetwork.Layer] = []
        for layer in layers { whole.append(try self.layer(layer.header.id)) }
        return ContainerNetwork(layers: whole, fields: fields)
    }
}

extension ContainerReader {
    private static func layers(
        _ bytes: [UInt8], count: Int, subLayers: Int, crc: UInt32, fileSize: Int, dataStart: Int
    ) throws(ContainerError) -> [Layer] {
        func fail(_ problem: String) -> ContainerError { ContainerError(.layerHeaders, problem) }
        // The smallest headers must fit, before anything is made for them.
        guard count <= bytes.count / ContainerLayout.layerHeaderBytes,
            subLayers <= bytes.count / ContainerLayout.subLayerHeaderBytes
        else { throw fail("\(count) layers do not fit into \(bytes.count) bytes") }
        var reader = ByteReader(bytes[...])
        var layers: [Layer] = []
        for index in 0..<count {
            guard let layer = readLayer(&reader, fileSize: fileSize, dataStart: dataStart) else {
                throw fail("the header of layer number \(index) is damaged")
            }
            layers.append(layer)
        }
        // What is left is padding up to the data.
        let used = bytes.count - reader.remaining
        guard Kernels.crc32c(bytes[0..<used].span) == crc else {
            throw fail("their checksum does not match")
        }
        guard reader.take(reader.remaining).map({ $0.allSatisfy { $0 == 0 } }) ?? false,
            layers.reduce(0, { $0 + $1.places.count }) == subLayers
        else { throw fail("their number or their padding is damaged") }
        return layers
    }

    private static func readLayer(
        _ reader: inout ByteReader, fileSize: Int, dataStart: Int
    ) -> Layer? {
        guard let id = reader.number(UInt32.self), id > 0, let type = reader.number(UInt16.self),
            reader.number(UInt16.self) == 0, let inputCount = reader.number(UInt32.self),
            let subLayerCount = reader.number(UInt32.self), let offset = reader.number(UInt64.self),
            let size = reader.number(UInt64.self),
            reader.number(UInt32.self) == ContainerLayout.none,
            reader.number(UInt16.self) == 0, let nameCount = reader.number(UInt16.self),
            let checksum = reader.number(UInt32.self), let fieldBytes = reader.number(UInt32.self),
            let nameBytes = reader.take(Int(nameCount)),
            let name = String(validating: nameBytes, as: UTF8.self),
            Int(inputCount) <= reader.remaining / 8,
            Int(subLayerCount) <= reader.remaining / ContainerLayout.subLayerHeaderBytes
        else { return nil }
        var inputs: [ContainerNetwork.Input] = []
        for _ in 0..<inputCount {
            guard let layer = reader.number(UInt32.self), let port = reader.number(UInt32.self)
            else {
                return nil
            }
            inputs.append(ContainerNetwork.Input(layer: layer, port: port))
        }
        guard reader.padding(to: 8), let raw = reader.take(Int(fieldBytes)),
            let attributes = ContainerField.read(raw)
        else { return nil }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard !overflow, end <= UInt64(fileSize), size == 0 || offset >= UInt64(dataStart) else {
            return nil
        }
        let extent = size == 0 ? 0..<0 : Int(offset)..<Int(end)
        var header = ContainerNetwork.Layer(
            id: id, name: name, type: type, inputs: inputs, attributes: attributes)
        var (places, checksums, position) = ([Range<Int>](), [UInt32](), extent.lowerBound)
        for _ in 0..<subLayerCount {
            guard let (subLayer, place, crc) = readSubLayer(&reader) else { return nil }
            if place.isEmpty {
                guard place.lowerBound == 0 else { return nil }
            } else {
                guard place.lowerBound >= position, place.upperBound <= extent.upperBound,
                    place.lowerBound % ContainerLayout.dataAlignment == 0
                else { return nil }
                position = place.upperBound
            }
            header.subLayers.append(subLayer)
            places.append(place)
            checksums.append(crc)
        }
        return Layer(
            header: header, places: places, checksums: checksums, extent: extent, checksum: checksum
        )
    }

    private static func readSubLayer(
        _ reader: inout ByteReader
    ) -> (ContainerNetwork.SubLayer, Range<Int>, UInt32)? {
        guard let kind = reader.number(UInt8.self).flatMap(ContainerNetwork.Kind.init),
            let type = reader.number(UInt8.self).flatMap(ContainerNetwork.ElementType.init),
            let rank = reader.number(UInt8.self), rank <= ContainerLayout.maximumRank,
            reader.number(UInt8.self) == 0, reader.number(UInt32.self) == 0,
            let offset = reader.number(UInt64.self), let size = reader.number(UInt64.self),
            let crc = reader.number(UInt32.self), reader.number(UInt32.self) == 0
        else { return nil }
        var (dims, count) = ([UInt32](), UInt64(type.size))
        for _ in 0..<rank {
            guard let extent = reader.number(UInt32.self) else { return nil }
            let (product, overflow) = count.multipliedReportingOverflow(by: UInt64(extent))
            guard !overflow else { return nil }
            count = product
            dims.append(extent)
        }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard reader.padding(to: 8), size == count, !overflow, end <= UInt64(Int.max) else {
            return nil
        }
        let subLayer = ContainerNetwork.SubLayer(kind: kind, type: type, dims: dims, data: [])
        return (subLayer, Int(offset)..<Int(end), crc)
    }

    // Ids are unique, inputs come before those who read them, and the kind of topology is as the header says.
    private func checkTopology() throws(ContainerError) {
        var known: Set<UInt32> = [0]
        for layer in layers {
            guard layer.header.inputs.allSatisfy({ known.contains($0.layer) }) else {
                throw ContainerError(
                    .layerHeaders,
                    "layer \(layer.header.id) reads a layer that does not come before it")
            }
            guard known.insert(layer.header.id).inserted else {
                throw ContainerError(.layerHeaders, "two layers have the id \(layer.header.id)")
            }
        }
        guard ContainerNetwork(layers: layers.map(\.header)).isSequential == isSequential else {
            throw ContainerError(.layerHeaders, "its layers are not joined as its header says")
        }
    }
}
