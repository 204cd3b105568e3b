package import EspalierGraph
import EspalierTensors

extension Graph {
    /// The graph in a file.
    ///
    /// Everything that the headers say is checked before the first constant is read: operations, operands, shapes. A
    /// tensor takes at most 128 elements for each byte of its mask, or has its own in the file.
    ///
    /// - Throws: `ContainerError` with the part that is damaged or cannot be read.
    package init(reading reader: ContainerReader<some ByteSource>) throws(ContainerError) {
        self = try GraphOutline(reader).graph(reader)
    }
}

extension GraphOutline {
    /// The graph with its constants.
    func graph(_ reader: ContainerReader<some ByteSource>) throws(ContainerError) -> Graph {
        var graph = self.graph
        // Those of a layer stand side by side; layers without any are read too, for their checksums.
        var next = constants.startIndex
        for layer in reader.layers {
            let data = try reader.layer(layer.header.id)
            while next < constants.endIndex, constants[next].layer == layer.header.id {
                graph.constants.append(try constants[next].value(in: data))
                next += 1
            }
        }
        return graph
    }
}

extension GraphOutline.Constant {
    /// The constant from the data of its layer.
    func value(in data: ContainerNetwork.Layer) throws(ContainerError) -> Graph.Constant {
        func fail(_ problem: String) -> ContainerError {
            ContainerError(.layer(layer), "'\(name)': \(problem)")
        }
        var live: [Int]?
        if let blocks, let index = mask {
            live = blocks.live(data.subLayers[index].data)
            guard live != nil else { throw fail("bits stand behind the end of its mask") }
        }
        let elements = data.subLayers[self.elements]
        if let live, let blocks {
            guard live.count * blocks.size * elements.type.size == elements.data.count else {
                throw fail("its mask has \(live.count) blocks, its data others")
            }
        }
        let mask = live.flatMap { live in blocks?.mask(live: live, shape: shape) }
        func spread<Element>(_ values: [Element], zero: Element) -> [Element] {
            guard let live, let blocks else { return values }
            var result = [Element](repeating: zero, count: shape.elementCount)
            var source = values.makeIterator()
            for block in live {
                for entry in blocks.entries(of: block) { result[entry] = source.next() ?? zero }
            }
            return result
        }
        let value: Graph.Constant.Value
        switch content {
        case .floats:
            let values = numbers(elements.data, UInt32.self).map { Float(bitPattern: $0) }
            value = .floats(Tensor(spread(values, zero: 0), shape: shape))
        case .sums:
            value = .sums(numbers(elements.data, Int32.self))
        case .codes(let scheme):
            let codes = elements.data.map { Int8(bitPattern: $0) }
            let range = scheme.codes
            guard codes.allSatisfy({ range.contains(Int32($0)) }) else {
                throw fail("a code outside \(range)")
            }
            let scales = scale.map { numbers(data.subLayers[$0].data, UInt32.self) } ?? []
            let zeroPoints = zeroPoint.map { numbers(data.subLayers[$0].data, Int32.self) }
            let parameters = scales.map { Float(bitPattern: $0) }
            guard parameters.allSatisfy({ $0.isFinite && $0 > 0 }) else {
                throw fail("a scale that is not above 0")
            }
            guard zeroPoints?.allSatisfy({ range.contains($0) }) ?? true else {
                throw fail("a zero point outside \(range)")
            }
            // What is not stored has the code 0, which must be the value 0.
            guard live == nil || zeroPoints?.allSatisfy({ $0 == 0 }) ?? true else {
                throw fail("a mask, but 0 has another code")
            }
            value = .codes(
                QuantizedTensor(
                    shape: shape, codes: spread(codes, zero: 0),
                    parameters: QuantizationParameters(
                        scheme: scheme, scales: parameters,
                        zeroPoints: zeroPoints ?? [Int32](repeating: 0, count: scales.count))))
        }
        return Graph.Constant(name: name, value: value, mask: mask)
    }

    private func numbers<Number: FixedWidthInteger>(
        _ bytes: [UInt8], _ type: Number.Type
    ) -> [Number] {
        var reader = ByteReader(bytes[...])
        return (0..<bytes.count / MemoryLayout<Number>.size).compactMap { _ in reader.number() }
    }
}
