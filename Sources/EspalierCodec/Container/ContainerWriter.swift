import EspalierKernels
import EspalierTensors

extension ContainerNetwork {
    /// The network as one file: network header, layer headers each followed by its sub-layer headers, data.
    ///
    /// - Parameters:
    ///   - isCompact: Whether small tensors may begin at multiples of 8 instead of 64, and the data of the layers fill
    ///     the file without gaps.
    ///   - order: The order in which the data of the layers lie in the file, as indices; that of the layers where nil.
    ///     It means nothing to a reader.
    /// - Precondition: ids are unique and above 0, every input is an earlier layer or 0, and data fit their dims.
    public func encoded(isCompact: Bool = false, order: [Int]? = nil) -> [UInt8] {
        checkIds()
        let headers = layers.reduce(ContainerLayout.networkHeaderBytes + fieldBytes.count) {
            $0 + $1.headerBytes
        }
        let dataStart = ContainerLayout.aligned(
            headers, to: ContainerLayout.alignment(of: 0, isCompact: isCompact))
        var end = dataStart
        var places = [DataPlace](repeating: DataPlace(), count: layers.count)
        let order = order ?? Array(layers.indices)
        require(order.sorted() == Array(layers.indices), "the order \(order) is none of all layers")
        for index in order {
            places[index] = layers[index].place(from: end, isCompact: isCompact)
            end = max(end, places[index].offset + places[index].bytes.count)
        }
        var headerWriter = ByteWriter()
        for (layer, place) in zip(layers, places) { layer.writeHeader(to: &headerWriter, place) }
        var file = ByteWriter()
        writeNetworkHeader(
            to: &file, layerHeaders: headerWriter.bytes, dataStart: dataStart,
            fileSize: end == dataStart ? headers : end, isCompact: isCompact)
        file.add(headerWriter.bytes)
        for index in order where !places[index].bytes.isEmpty {
            file.add([UInt8](repeating: 0, count: places[index].offset - file.bytes.count))
            file.add(places[index].bytes)
        }
        return file.bytes
    }

    private func checkIds() {
        var known: Set<UInt32> = [0]
        for layer in layers {
            for input in layer.inputs {
                require(
                    known.contains(input.layer),
                    "layer \(layer.id) reads layer \(input.layer), which does not come before it")
            }
            require(known.insert(layer.id).inserted, "layer id \(layer.id) is 0 or stands twice")
        }
    }

    private var fieldBytes: [UInt8] {
        var writer = ByteWriter()
        for field in fields { field.write(to: &writer) }
        return writer.bytes
    }

    private func writeNetworkHeader(
        to file: inout ByteWriter, layerHeaders: [UInt8], dataStart: Int, fileSize: Int,
        isCompact: Bool
    ) {
        let fields = fieldBytes
        let headerBytes = ContainerLayout.networkHeaderBytes + fields.count
        var header = ByteWriter()
        header.add(ContainerLayout.magic)
        header.add(ContainerLayout.major)
        header.add(ContainerLayout.minor)
        header.add(UInt32(headerBytes))
        header.add(
            (isSequential ? 0 : ContainerLayout.graphFlag)
                | (isCompact ? ContainerLayout.compactFlag : 0))
        header.add(UInt32(layers.count))
        header.add(UInt32(layers.reduce(0) { $0 + $1.subLayers.count }))
        header.add(UInt64(headerBytes))
        header.add(UInt64(dataStart))
        header.add(UInt64(fileSize))
        header.add(UInt32(0))
        header.add(UInt32(0))
        let crc = Kernels.crc32c((header.bytes + fields).span)
        header.add(crc)
        header.add(Kernels.crc32c(layerHeaders.span))
        file.add(header.bytes)
        file.add(fields)
    }

    /// Whether each layer reads just the one before it.
    var isSequential: Bool {
        layers.indices.allSatisfy { index in
            layers[index].inputs == [Input(layer: index == 0 ? 0 : layers[index - 1].id)]
        }
    }
}

/// Where the data of a layer lie.
private struct DataPlace {
    var offset = 0
    var bytes: [UInt8] = []
    /// Of each tensor; 0 for one without elements, which has no place.
    var tensors: [Int] = []
}

extension ContainerNetwork.Layer {
    /// The data of this layer behind those of others that end at `end`.
    fileprivate func place(from end: Int, isCompact: Bool) -> DataPlace {
        var place = DataPlace()
        for subLayer in subLayers {
            let count = subLayer.dims.reduce(subLayer.type.size) { $0 * Int($1) }
            let size = subLayer.data.count
            require(
                subLayer.coding == .all
                    ? size == count : size <= count && size % subLayer.type.size == 0,
                "\(size) bytes for \(subLayer.dims)")
            guard size > 0 else {
                place.tensors.append(0)
                continue
            }
            let alignment = ContainerLayout.alignment(of: size, isCompact: isCompact)
            if place.bytes.isEmpty {
                // Without gaps between layers every byte of the file lies under some checksum.
                place.offset =
                    isCompact ? end : ContainerLayout.aligned(end, to: alignment)
            }
            let start = ContainerLayout.aligned(place.offset + place.bytes.count, to: alignment)
            place.bytes += [UInt8](
                repeating: 0, count: start - place.offset - place.bytes.count)
            place.tensors.append(start)
            place.bytes += subLayer.data
        }
        return place
    }

    fileprivate var attributeBytes: [UInt8] {
        var writer = ByteWriter()
        for attribute in attributes { attribute.write(to: &writer) }
        return writer.bytes
    }

    fileprivate var headerBytes: Int {
        let own = ContainerLayout.layerHeaderBytes + name.utf8.count + 8 * inputs.count
        // Fields begin at a multiple of 8.
        let fixed = ContainerLayout.aligned(own, to: 8) + attributeBytes.count
        return subLayers.reduce(fixed) {
            $0
                + ContainerLayout.aligned(
                    ContainerLayout.subLayerHeaderBytes + 4 * $1.dims.count, to: 8)
        }
    }

    fileprivate func writeHeader(to writer: inout ByteWriter, _ place: DataPlace) {
        let attributes = attributeBytes
        writer.add(id)
        writer.add(type)
        writer.add(UInt16(0))
        writer.add(UInt32(inputs.count))
        writer.add(UInt32(subLayers.count))
        writer.add(UInt64(place.offset))
        writer.add(UInt64(place.bytes.count))
        writer.add(ContainerLayout.none)
        writer.add(UInt16(0))
        writer.add(UInt16(name.utf8.count))
        writer.add(Kernels.crc32c(place.bytes.span))
        writer.add(UInt32(attributes.count))
        writer.add(name.utf8)
        for input in inputs {
            writer.add(input.layer)
            writer.add(input.port)
        }
        writer.pad(to: 8)
        writer.add(attributes)
        for (offset, subLayer) in zip(place.tensors, subLayers) {
            writer.add(subLayer.kind.rawValue)
            writer.add(subLayer.type.rawValue)
            writer.add(UInt8(subLayer.dims.count))
            writer.add(subLayer.coding.rawValue)
            writer.add(UInt16(0))
            writer.add(UInt16(0))
            writer.add(UInt64(offset))
            writer.add(UInt64(subLayer.data.count))
            writer.add(Kernels.crc32c(subLayer.data.span))
            writer.add(UInt32(0))
            for extent in subLayer.dims { writer.add(extent) }
            writer.pad(to: 8)
        }
    }
}
