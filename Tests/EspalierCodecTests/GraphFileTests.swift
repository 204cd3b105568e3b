import EspalierCodec
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// Constants in the order in which nodes read them.
private func inOrder(_ graph: Graph) -> Graph {
    var result = graph
    var numbers: [Int: Int] = [:]
    result.constants = []
    for (index, node) in graph.nodes.enumerated() {
        result.nodes[index].operands = node.operands.map { operand in
            guard case .constant(let old) = operand else { return operand }
            if numbers[old] == nil {
                numbers[old] = result.constants.count
                result.constants.append(graph.constants[old])
            }
            return .constant(numbers[old] ?? 0)
        }
    }
    return result
}

private func expectSame(_ a: Graph, _ b: Graph, masks: Bool = true) {
    #expect(a.input.name == b.input.name && a.input.example == b.input.example)
    #expect(a.input.quantization == b.input.quantization && a.output == b.output)
    #expect(a.nodes.count == b.nodes.count && a.constants.count == b.constants.count)
    for (a, b) in zip(a.nodes, b.nodes) {
        #expect(a.name == b.name && a.op.entry.number == b.op.entry.number)
        #expect(a.op.attributes == b.op.attributes && a.operands == b.operands)
        #expect(a.activation == b.activation && a.quantization == b.quantization)
    }
    for (a, b) in zip(a.constants, b.constants) {
        #expect(a.name == b.name)
        if masks { #expect(a.mask == b.mask) }
        switch (a.value, b.value) {
        case (.floats(let a), .floats(let b)): #expect(a.isIdentical(to: b))
        case (.codes(let a), .codes(let b)): #expect(a == b)
        case (.sums(let a), .sums(let b)): #expect(a == b)
        default: Issue.record("another kind of value")
        }
    }
}

extension GraphCase: CustomTestStringConvertible {}

@Suite struct GraphFileTests {
    @Test(
        "T5.1: graphs come back as they were", arguments: GraphSamples.cases + GraphSamples.opCases)
    func T5_1_roundTrip(_ sample: GraphCase) throws {
        let graph = try sample.make()
        let bytes = try graph.encoded(description: [1, 2, 3], producer: "test 1.0")
        let file = try GraphFile(bytes)
        #expect(file.description == [1, 2, 3] && file.producer == "test 1.0")
        let read = try file.graph()
        expectSame(inOrder(graph), read)
        #expect(try read.encoded(description: [1, 2, 3], producer: "test 1.0") == bytes)
        // Layer by layer, in any order.
        var constants: [Graph.Constant] = []
        for layer in file.reader.layers.reversed() {
            constants.insert(
                contentsOf: try file.constants(ofLayer: layer.header.id), at: 0)
        }
        var again = read
        again.constants = constants
        expectSame(read, again)
    }

    @Test("T5 golden file of a sparse quantized graph, frozen")
    func T5_goldenGraph() throws {
        let bytes = try GraphSamples.tiny.encoded(producer: "espalier")
        let hex = bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count < 2 ? "0" + digits : digits
        }.joined()
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("graph-1.0.hex").path
        let frozen = try String(contentsOfFile: path, encoding: .utf8)
        #expect(hex == frozen.filter { !$0.isWhitespace }, "\(hex)")
    }

    @Test("The network of the quickstart is small, and its bytes are accounted for")
    func quickstartSize() throws {
        let bytes = try GraphSamples.quantizedConvnet().encoded(producer: "espalier 0.1.0")
        let sizes = try GraphFile(bytes).reader.sizes
        #expect(sizes.total == bytes.count && bytes.count < 11_750, "\(sizes)")
        let (live, dense) = ((18_432 + 32_768) / 10, 288 + 1_280)
        #expect(abs(sizes.data(.weight) - dense - live) <= 4)
        #expect(sizes.data(.mask) == (18_432 + 32_768) / 4 / 8)
        #expect(sizes.data(.scale) == 4 * 234 && sizes.data(.bias) == 4 * 234)
        #expect(sizes.padding < 64)
        #expect(sizes.layers.map(\.name).contains("hidden"))
        #expect(
            sizes.headers + sizes.padding + sizes.data(.weight) + sizes.data(.mask)
                + sizes.data(.scale) + sizes.data(.bias) == bytes.count)
    }

    @Test("T5.2: one layer's constants are read alone")
    func T5_2_partialDecode() throws {
        var bytes = try GraphSamples.tiny.encoded()
        let whole = try GraphFile(bytes)
        // All other data are damaged.
        let hidden = try #require(whole.reader.layers.first { $0.header.name == "hidden" })
        for layer in whole.reader.layers where layer.header.id != hidden.header.id {
            for place in layer.extent { bytes[place] ^= 0x55 }
        }
        let constants = try GraphFile(bytes).constants(ofLayer: hidden.header.id)
        #expect(constants.map(\.name) == ["hidden.weight", "hidden.bias"])
        #expect(constants[0].mask == GraphSamples.tiny.constants[4].mask)
        #expect(throws: ContainerError.self) { try GraphFile(bytes).graph() }
    }

    @Test("T5.3: the order of the data in the file means nothing")
    func T5_3_physicalOrder() throws {
        let network = try GraphSamples.tiny.container()
        let usual = network.encoded(isCompact: true)
        var files: Set<[UInt8]> = [usual]
        for seed in 0..<20 {
            let draws = RandomStream(seed: UInt64(seed)).words(network.layers.count)
            let order = network.layers.indices.sorted { draws[$0] < draws[$1] }
            for isCompact in [true, false] {
                let bytes = network.encoded(isCompact: isCompact, order: order)
                files.insert(bytes)
                let file = try GraphFile(bytes)
                expectSame(try file.graph(), GraphSamples.tiny)
                #expect(try file.reader.network() == network)
            }
        }
        #expect(files.count > 20)
    }

    @Test("Files are read and mapped as bytes in memory are; one that is cut off later is an error")
    func fromDisk() throws {
        let bytes = try GraphSamples.tiny.encoded()
        try Fixtures.withFolder { folder in
            let path = folder + "/tiny.espalier"
            try FileAccess.writeAtomically(bytes, to: path)
            let (opened, mapped) = (
                try GraphFile(FileBytes(path)), try GraphFile(MappedBytes(path))
            )
            expectSame(try opened.graph(), GraphSamples.tiny)
            expectSame(try mapped.graph(), GraphSamples.tiny)
            let handle = try #require(FileHandle(forWritingAtPath: path))
            try handle.truncate(atOffset: UInt64(bytes.count - 1))
            // The head is the last.
            for read in [{ try opened.graph() }, { try mapped.graph() }] {
                do {
                    _ = try read()
                    Issue.record("it was read")
                } catch let error as ContainerError {
                    #expect(error.part == .layer(7))
                }
            }
        }
    }

    @Test("A mask that saves nothing is left out; one of -0 is written as +0")
    func masksAndZeros() throws {
        let nearlyDense = Mask(shape: [8, 9]) { $0 != 5 }
        let half = Mask(shape: [8, 9]) { $0 % 2 == 0 }
        func graph(_ mask: Mask, zero: Float) -> Graph {
            let values = (0..<72).map { mask.isLive($0) ? Float($0) : zero }
            return GraphSamples.single(
                .linear(Op.Linear()), [9],
                [
                    Graph.Constant(
                        name: "linear.weight", value: .floats(Tensor(values, shape: [8, 9])),
                        mask: mask)
                ])
        }
        let dense = try GraphFile(graph(nearlyDense, zero: 0).encoded())
        #expect(dense.reader.layers[0].header.subLayers.map(\.kind) == [.weight])
        expectSame(try dense.graph(), graph(nearlyDense, zero: 0), masks: false)
        let negative = try GraphFile(graph(half, zero: -0.0).encoded()).graph()
        expectSame(negative, graph(half, zero: 0))
        #expect(throws: GraphError.self) { try graph(half, zero: 1).encoded() }
    }

    @Test("What cannot be read is not written")
    func refusedGraphs() throws {
        let long = Array(repeating: "x", count: 70_000).joined()
        var graphs = [
            GraphSamples.single(.relu(Op.ReLU()), [0]),
            GraphSamples.single(.reshape(Op.Reshape(to: [5])), [5]),
            GraphSamples.single(.linear(Op.Linear()), [3], [GraphSamples.constant("w", [2, 4])]),
            GraphSamples.single(.add(Op.Add()), [3], []),
            GraphSamples.single(
                .dropout(Op.Dropout(probability: 0.5, kept: .given(Tensor(1)))), [3]),
            GraphSamples.single(
                .conv2D(Op.Conv2D(stride: Size2D(1 << 25))), [3, 3, 1],
                [GraphSamples.constant("w", [1, 1, 1, 1])]),
        ]
        for change: (inout Graph) -> Void in [
            { $0.nodes[0].name = long }, { $0.output = .constant(0) }, { $0.output = .node(9) },
            { $0.nodes[0].operands[0] = .node(3) }, { $0.input.quantization = nil },
            { $0.constants[0].value = .sums([1]) },
            { $0.constants[1].mask = Mask(shape: [5]) { _ in true } },
            { $0.nodes[0].quantization = GraphSamples.codes([3, 1], seed: 1).parameters },
        ] {
            var graph = GraphSamples.tiny
            change(&graph)
            graphs.append(graph)
        }
        for (index, graph) in graphs.enumerated() {
            #expect(throws: GraphError.self, "\(index)") { try graph.encoded() }
        }
    }

    @Test("A coding of a later version is refused by its number")
    func unknownCoding() throws {
        var bytes = try GraphSamples.tiny.encoded()
        let layer = try #require(
            try GraphFile(bytes).reader.layers.first { $0.header.name == "head" })
        // The last header of the layer is that of its bias: 32 bytes and one extent, padded.
        bytes[layer.headerPlace.upperBound - 40 + 3] = 9
        ChecksumRepair.repair(&bytes)
        do {
            _ = try GraphFile(bytes)
            Issue.record("it was read")
        } catch {
            #expect(error.part == .layerHeaders && error.problem.contains("coding 9"), "\(error)")
        }
    }
}
