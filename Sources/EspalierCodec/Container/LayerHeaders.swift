import EspalierKernels
import EspalierTensors

/// The bytes between the network header and the data, being read.
struct LayerHeaders {
    let bytes: [UInt8]
    /// Where they begin in the file.
    let start: Int
    /// Where the data lie in the file.
    let data: Range<Int>
    let isCompact: Bool

    typealias Layer = ContainerLayer

    /// The headers of all layers.
    ///
    /// - Throws: `ContainerError` where they are damaged or need a newer program.
    func layers(count: Int, subLayers: Int, crc: UInt32) throws(ContainerError) -> [Layer] {
        func fail(_ problem: String) -> ContainerError { ContainerError(.layerHeaders, problem) }
        // The smallest headers must fit, before anything is made for them.
        guard count <= bytes.count / ContainerLayout.layerHeaderBytes,
            subLayers <= bytes.count / ContainerLayout.subLayerHeaderBytes
        else { throw fail("\(count) layers do not fit into \(bytes.count) bytes") }
        var reader = ByteReader(bytes[...])
        var layers: [Layer] = []
        // A coding that is not known is told apart from damage: by its number, once the checksum matches.
        var unknown: String?
        for index in 0..<count {
            guard let layer = readLayer(&reader, &unknown) else {
                throw fail("the header of layer number \(index) is damaged")
            }
            layers.append(layer)
        }
        // What is left is padding up to the data.
        let used = bytes.count - reader.remaining
        guard Kernels.crc32c(bytes[0..<used].span) == crc else {
            throw fail("their checksum does not match")
        }
        if let unknown { throw fail(unknown) }
        guard reader.remaining < ContainerLayout.dataAlignment,
            reader.take(reader.remaining).map({ $0.allSatisfy { $0 == 0 } }) ?? false,
            layers.reduce(0, { $0 + $1.places.count }) == subLayers
        else { throw fail("their number or their padding is damaged") }
        return layers
    }

    private func readLayer(_ reader: inout ByteReader, _ unknown: inout String?) -> Layer? {
        let first = reader.position
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
            else { return nil }
            inputs.append(ContainerNetwork.Input(layer: layer, port: port))
        }
        guard reader.padding(to: 8), let raw = reader.take(Int(fieldBytes)),
            let attributes = ContainerField.read(raw), fieldBytes % 8 == 0
        else { return nil }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard !overflow, end <= UInt64(data.upperBound),
            size == 0 ? offset == 0 : offset >= UInt64(data.lowerBound)
        else { return nil }
        let extent = size == 0 ? 0..<0 : Int(offset)..<Int(end)
        var header = ContainerNetwork.Layer(
            id: id, name: name, type: type, inputs: inputs, attributes: attributes)
        var (places, checksums, position) = ([Range<Int>](), [UInt32](), extent.lowerBound)
        for index in 0..<subLayerCount {
            guard let (subLayer, place, crc, coding) = readSubLayer(&reader) else { return nil }
            if subLayer.coding.rawValue != coding, unknown == nil {
                unknown =
                    "layer \(id): coding \(coding) of its tensor \(index) needs a newer program"
            }
            if place.isEmpty {
                guard place.lowerBound == 0 else { return nil }
            } else {
                let alignment = ContainerLayout.alignment(of: place.count, isCompact: isCompact)
                guard place.lowerBound >= position, place.upperBound <= extent.upperBound,
                    place.lowerBound % alignment == 0
                else { return nil }
                position = place.upperBound
            }
            header.subLayers.append(subLayer)
            places.append(place)
            checksums.append(crc)
        }
        return Layer(
            header: header, headerPlace: start + first..<start + reader.position, extent: extent,
            places: places, checksums: checksums, checksum: checksum)
    }

    private func readSubLayer(
        _ reader: inout ByteReader
    ) -> (ContainerNetwork.SubLayer, Range<Int>, UInt32, coding: UInt8)? {
        guard let kind = reader.number(UInt8.self).flatMap(ContainerNetwork.Kind.init),
            let type = reader.number(UInt8.self).flatMap(ContainerNetwork.ElementType.init),
            let rank = reader.number(UInt8.self), rank <= ContainerLayout.maximumRank,
            let coding = reader.number(UInt8.self), reader.number(UInt32.self) == 0,
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
        let known = ContainerNetwork.Coding(rawValue: coding)
        let fits =
            switch known {
            case .all: size == count
            case .live: size <= count && size % UInt64(type.size) == 0
            case nil: true
            }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard reader.padding(to: 8), fits, !overflow, end <= UInt64(Int.max) else { return nil }
        let subLayer = ContainerNetwork.SubLayer(
            kind: kind, type: type, coding: known ?? .all, dims: dims, data: [])
        return (subLayer, Int(offset)..<Int(end), crc, coding)
    }
}
