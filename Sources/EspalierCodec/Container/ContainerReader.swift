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

/// A layer's headers, as they stand in a file.
public struct ContainerLayer: Sendable, Hashable {
    /// Without data.
    public let header: ContainerNetwork.Layer
    /// Where its headers lie in the file: its own and those of its sub-layers.
    public let headerPlace: Range<Int>
    /// Where its data lie in the file, with the padding between them.
    public let extent: Range<Int>
    /// Where each sub-layer lies in the file.
    public let places: [Range<Int>]
    let checksums: [UInt32]
    let checksum: UInt32
}

/// A file of layers: opened by its headers alone, read layer by layer.
///
/// Any byte string gives a value or a `ContainerError`, and nothing is allocated that the file is too short for.
public struct ContainerReader<Source: ByteSource> {
    public typealias Layer = ContainerLayer

    /// The layers in the order of the file, which is one in which inputs come first.
    public let layers: [Layer]
    /// Facts about the network.
    public let fields: [ContainerField]
    /// Whether each layer reads just the one before it.
    public let isSequential: Bool
    /// Whether small tensors may begin at multiples of 8, and the data lie without gaps.
    public let isCompact: Bool
    /// Bytes of the network header with its fields.
    public let headerBytes: Int
    private let source: Source
    private let indices: [UInt32: Int]

    /// Bytes of the file.
    public var fileBytes: Int { source.count }

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
        guard flags & ~(ContainerLayout.graphFlag | ContainerLayout.compactFlag) == 0, profile == 0,
            quantization == 0
        else {
            throw fail("it needs a newer program: flags \(flags), profile \(profile)")
        }
        let isCompact = flags & ContainerLayout.compactFlag != 0
        guard let fields = ContainerField.read(extra[...]) else {
            throw fail("its fields are damaged")
        }
        if let unknown = fields.first(where: { $0.isCritical && !knownFields.contains($0.tag) }) {
            throw fail("its field \(unknown.tag) is critical and not known here")
        }
        guard places[0] == UInt64(headerBytes), places[1] >= places[0],
            places[2] == UInt64(source.count),
            places[1] % UInt64(ContainerLayout.alignment(of: 0, isCompact: isCompact)) == 0
        else {
            throw fail("its places \(places) do not fit a file of \(source.count) bytes")
        }
        let end = min(Int(clamping: places[1]), source.count)
        guard let headers = source.read(headerBytes..<end) else { throw fail("it cannot be read") }
        self.source = source
        self.fields = fields
        isSequential = flags & ContainerLayout.graphFlag == 0
        self.isCompact = isCompact
        self.headerBytes = headerBytes
        let region = LayerHeaders(
            bytes: headers, start: headerBytes, data: end..<source.count, isCompact: isCompact)
        let layers = try region.layers(
            count: layerCount, subLayers: subLayerCount, crc: layersCRC)
        self.layers = layers
        indices = Dictionary(zip(layers.map(\.header.id), layers.indices)) { first, _ in first }
        try checkTopology()
        try checkExtents(data: end..<source.count)
    }

    /// The data of one layer; nothing of any other is touched.
    ///
    /// - Throws: `ContainerError` where they are damaged, or there is no such layer.
    public func layer(_ id: UInt32) throws(ContainerError) -> ContainerNetwork.Layer {
        guard let index = indices[id] else {
            throw ContainerError(.layer(id), "there is none of this id")
        }
        let layer = layers[index]
        var result = layer.header
        guard !layer.extent.isEmpty else { return result }
        guard let data = source.read(layer.extent) else {
            throw ContainerError(.layer(id), "its data cannot be read")
        }
        guard Kernels.crc32c(data.span) == layer.checksum else {
            throw ContainerError(.layer(id), "the checksum of its data does not match")
        }
        var end = 0
        for (index, place) in layer.places.enumerated() where !place.isEmpty {
            let start = place.lowerBound - layer.extent.lowerBound
            guard data[end..<start].allSatisfy({ $0 == 0 }) else {
                throw ContainerError(.layer(id), "its padding is not zero")
            }
            end = start + place.count
            let part = Array(data[start..<start + place.count])
            guard Kernels.crc32c(part.span) == layer.checksums[index] else {
                throw ContainerError(
                    .layer(id), "the checksum of its tensor \(index) does not match")
            }
            result.subLayers[index].data = part
        }
        guard end == data.count else {
            throw ContainerError(.layer(id), "\(data.count - end) bytes belong to no tensor")
        }
        return result
    }

    /// The whole network.
    ///
    /// - Throws: `ContainerError` with the first damaged part.
    public func network() throws(ContainerError) -> ContainerNetwork {
        var whole: [ContainerNetwork.Layer] = []
        for layer in layers { whole.append(try self.layer(layer.header.id)) }
        try checkGaps()
        return ContainerNetwork(layers: whole, fields: fields)
    }
}

extension ContainerReader {
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

    // No two layers share data, so that all of them together take no more memory than the file. Between them may be
    // padding: none in a compact file.
    private func checkExtents(data: Range<Int>) throws(ContainerError) {
        var end = data.lowerBound
        let limit = isCompact ? 1 : ContainerLayout.dataAlignment
        for layer in layersByPlace {
            guard layer.extent.lowerBound >= end, layer.extent.lowerBound - end < limit else {
                throw ContainerError(
                    .layerHeaders, "the data of layer \(layer.header.id) overlap or leave a gap")
            }
            end = layer.extent.upperBound
        }
        guard end >= data.upperBound else {
            throw ContainerError(
                .layerHeaders, "\(data.upperBound - end) bytes belong to no layer")
        }
    }

    private func checkGaps() throws(ContainerError) {
        var last: Layer?
        for layer in layersByPlace {
            if let last, last.extent.upperBound < layer.extent.lowerBound {
                let gap = source.read(last.extent.upperBound..<layer.extent.lowerBound)
                guard gap?.allSatisfy({ $0 == 0 }) ?? false else {
                    throw ContainerError(
                        .layer(last.header.id), "the padding behind its data is not zero")
                }
            }
            last = layer
        }
    }

    private var layersByPlace: [Layer] {
        layers.filter { !$0.extent.isEmpty }
            .sorted { $0.extent.lowerBound < $1.extent.lowerBound }
    }
}
