import EspalierKernels
import EspalierTensors

extension ContainerNetwork {
    /// The network as one file: network header, layer headers each followed by its sub-layer headers, data.
    ///
    /// - Precondition: ids are unique and above 0, every input is an earlier layer or 0, and data fit their dims.
    public func encoded() -> [UInt8] {
        let headers = layers.reduce(ContainerLayout.networkHeaderBytes + fieldBytes.count) {
            $0 + $1.headerBytes
        }
        let dataStart = ContainerLayout.aligned(headers)
        var place = dataStart
        var headerWriter = ByteWriter()
        var data: [(at: Int, bytes: [UInt8])] = []
        for (index, layer) in layers.enumerated() {
            require(
                layer.id > 0 && !layers[..<index].contains { $0.id == layer.id },
                "layer id \(layer.id) is 0 or stands twice")
            for input in layer.inputs {
                require(
                    input.layer == 0 || layers[..<index].contains { $0.id == input.layer },
                    "layer \(layer.id) reads layer \(input.layer), which does not come before it")
            }
            var offsets: [Int] = []
            for subLayer in layer.subLayers {
                let count = subLayer.dims.reduce(subLayer.type.size) { $0 * Int($1) }
                require(
                    subLayer.data.count == count,
                    "\(subLayer.data.count) bytes for \(subLayer.dims)")
                // A tensor without elements has no place.
                guard count > 0 else {
                    offsets.append(0)
                    continue
                }
                place = ContainerLayout.aligned(place)
                offsets.append(place)
                data.append((place, subLayer.data))
                place += count
            }
            let first = offsets.first { $0 > 0 }
            layer.writeHeader(
                to: &headerWriter, offsets: offsets, dataOffset: first ?? 0,
                dataSize: first.map { place - $0 } ?? 0)
        }
        var file = ByteWriter()
        writeNetworkHeader(
            to: &file, layerHeaders: headerWriter.bytes, dataStart: dataStart,
            fileSize: data.isEmpty ? headers : place)
        file.add(headerWriter.bytes)
        for (at, bytes) in data {
            file.add([UInt8](repeating: 0, count: at - file.bytes.count))
            file.add(bytes)
        }
        return file.bytes
    }

    private var fieldBytes: [UInt8] {
        var writer = ByteWriter()
        for field in fields { field.write(to: &writer) }
        return writer.bytes
    }

    private func writeNetworkHeader(
        to file: inout ByteWriter, layerHeaders: [UInt8], dataStart: Int, fileSize: Int
    ) {
        let fields = fieldBytes
        let headerBytes = ContainerLayout.networkHeaderBytes + fields.count
        var header = ByteWriter()
        header.add(ContainerLayout.magic)
        header.add(ContainerLayout.major)
        header.add(ContainerLayout.minor)
        header.add(UInt32(headerBytes))
        header.add(isSequential ? 0 : ContainerLayout.graphFlag)
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

extension ContainerNetwork.Layer {
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

    fileprivate func writeHeader(
        to writer: inout ByteWriter, offsets: [Int], dataOffset: Int, dataSize: Int
    ) {
        var extent: [UInt8] = []
        for (offset, subLayer) in zip(offsets, subLayers) where offset > 0 {
            extent += [UInt8](repeating: 0, count: offset - dataOffset - extent.count)
            extent += subLayer.data
        }
        let attributes = attributeBytes
        writer.add(id)
        writer.add(type)
        writer.add(UInt16(0))
        writer.add(UInt32(inputs.count))
        writer.add(UInt32(subLayers.count))
        writer.add(UInt64(dataOffset))
        writer.add(UInt64(dataSize))
        writer.add(ContainerLayout.none)
        writer.add(UInt16(0))
        writer.add(UInt16(name.utf8.count))
        writer.add(Kernels.crc32c(extent.span))
        writer.add(UInt32(attributes.count))
        writer.add(name.utf8)
        for input in inputs {
            writer.add(input.layer)
            writer.add(input.port)
        }
        writer.pad(to: 8)
        writer.add(attributes)
        for (offset, subLayer) in zip(offsets, subLayers) {
            writer.add(subLayer.kind.rawValue)
            writer.add(subLayer.type.rawValue)
            writer.add(UInt8(subLayer.dims.count))
            writer.add(UInt8(0))
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
