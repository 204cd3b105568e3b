import EspalierCodec
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

/// What happens to files that are not as they were written.
@Suite struct GraphDamageTests {
    private func problem(_ bytes: [UInt8]) -> ContainerError? {
        do {
            _ = try GraphFile(bytes).graph()
            return nil
        } catch { return error }
    }

    @Test("T5.5: every truncation and every flipped bit of a sparse quantized graph names its part")
    func T5_5_truncationAndFlips() throws {
        let bytes = try GraphSamples.tiny.encoded(description: [9], producer: "test")
        let reader = try GraphFile(bytes).reader
        for length in 0..<bytes.count {
            #expect(problem(Array(bytes[..<length]))?.part == .networkHeader, "\(length)")
        }
        #expect(problem(bytes + [0])?.part == .networkHeader)
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            let part: ContainerError.Part
            // The checksum of the layers' headers, at 60, is one of theirs.
            switch bit / 8 {
            case 0..<60, 64..<reader.headerBytes: part = .networkHeader
            case 60..<64: part = .layerHeaders
            case let byte:
                let layer = reader.layers.first { $0.extent.contains(byte) }
                part = layer.map { .layer($0.header.id) } ?? .layerHeaders
            }
            #expect(problem(damaged)?.part == part, "bit \(bit)")
        }
    }

    @Test("Damage behind right checksums gives a graph or an error", arguments: 0..<8)
    func repairedChecksums(_ seed: Int) throws {
        let samples = try [
            "quantized convnet", "tied constants", "residual",
            "codes with zero points along the inputs",
        ]
        .map { name in
            try #require(GraphSamples.cases.first { $0.testDescription == name }).make()
                .encoded()
        }
        var (read, refused) = (0, 0)
        for round in 0..<13_000 {
            let random = RandomStream(seed: UInt64(seed)).child(UInt64(round))
            let original = samples[round % samples.count]
            let headers = try GraphFile(original).reader.layers[0].extent.lowerBound
            let bytes = FileDamage.damaged(original, headers: headers, random: random)
            do {
                let graph = try GraphFile(bytes).graph()
                read += 1
                // What was read can be written, and is the same then.
                _ = try graph.encoded()
            } catch is ContainerError {
                refused += 1
            }
        }
        // Both must happen, or the mutations are too wild or too tame to mean anything.
        #expect(read > 500 && refused > 2_000, "\(read) read, \(refused) refused")
    }

    @Test("A file cannot ask for more than it justifies")
    func claims() throws {
        let linear = GraphSamples.single(
            .linear(Op.Linear()), [4], [GraphSamples.constant("linear.weight", [2, 4])])
        /// A change to the container, and the part that refuses it.
        let faults: [(String, (inout ContainerNetwork) -> Void)] = [
            ("dims", { $0.layers[0].subLayers[0].dims = [2, 5] }),
            ("rank", { $0.layers[0].subLayers[0].dims = [2, 4, 1] }),
            ("no weight", { $0.layers[0].subLayers = [] }),
            ("kind", { $0.layers[0].subLayers[0].kind = .normMean }),
            ("type", { $0.layers[0].subLayers[0].type = .i32 }),
            ("codes without a scale", { $0.layers[0].subLayers[0].type = .i8 }),
            ("unknown op", { $0.layers[0].type = 900 }),
            ("an op of training", { $0.layers[0].type = 13 }),
            ("no input", { $0.layers[0].inputs = [] }),
            ("port", { $0.layers[0].inputs[0].port = 1 }),
            ("live without a mask", { $0.layers[0].subLayers[0].coding = .live }),
            (
                "a mask without live",
                {
                    $0.layers[0].subLayers.insert(
                        ContainerNetwork.SubLayer(kind: .mask, type: .u8, dims: [1], data: [255]),
                        at: 0)
                }
            ),
            (
                "a critical field",
                {
                    $0.layers[0].attributes = [
                        ContainerField(tag: 77, isCritical: true, bytes: [])
                    ]
                }
            ),
            (
                "an over-long number",
                {
                    $0.layers[0].attributes = [
                        ContainerField(tag: 1, isCritical: true, bytes: [0xC0, 0x00, 2, 2])
                    ]
                }
            ),
            (
                "an unknown attribute",
                {
                    $0.layers[0].attributes = [
                        ContainerField(tag: 1, isCritical: true, bytes: [0x60, 2, 2])
                    ]
                }
            ),
            (
                "a count beyond the end",
                {
                    $0.layers[0].attributes = [
                        ContainerField(
                            tag: 1, isCritical: true,
                            bytes: [0x40, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 2])
                    ]
                }
            ),
            (
                "a node that nobody feeds",
                {
                    $0.layers[0].inputs = []
                    $0.layers[0].type = 3
                }
            ),
            ("no opset", { $0.fields.removeAll { $0.tag == 1 } }),
            ("a later opset", { $0.fields[0].bytes = [9, 9] }),
            ("no output", { $0.fields.removeAll { $0.tag == 3 } }),
            ("an output that is not there", { $0.fields[2].bytes = [7, 0, 0, 0] }),
            ("an input of nothing", { $0.fields[1].bytes = [1, 120, 1, 0] }),
            ("a huge input", { $0.fields[1].bytes = [1, 120, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F] }),
            (
                "an input whose extents multiply to too many",
                { $0.fields[1].bytes = [0, 4] + [UInt8]([0, 4]).map { _ in 0x80 } + [1, 1, 1] }
            ),
        ]
        for (name, change) in faults {
            var network = try linear.container()
            change(&network)
            // The writer of containers asks for data of the right size.
            for index in network.layers[0].subLayers.indices {
                let tensor = network.layers[0].subLayers[index]
                guard tensor.coding == .all else { continue }
                let count = tensor.dims.reduce(tensor.type.size) { $0 * Int($1) }
                network.layers[0].subLayers[index].data = [UInt8](repeating: 0, count: count)
            }
            #expect(problem(network.encoded(isCompact: true)) != nil, "\(name)")
            #expect(problem(network.encoded()) != nil, "\(name)")
        }
        let untouched = try linear.container()
        #expect(problem(untouched.encoded()) == nil)
        // A field that is not critical is passed over.
        var newer = untouched
        newer.layers[0].attributes.append(ContainerField(tag: 77, isCritical: false, bytes: [1]))
        #expect(problem(newer.encoded()) == nil)
    }

    /// A few bytes that claim a tensor of 2^28 elements: refused by the size of its mask, before anything is made.
    @Test func claimedTensors() throws {
        var network = try #require(
            GraphSamples.cases.first { $0.testDescription == "blocks of 4x4" }
        ).make().container()
        for dims: [UInt32] in [[1 << 14, 1 << 14], [1 << 28, 24], [16, 1 << 28]] {
            network.layers[0].subLayers[1].dims = dims
            let error = problem(network.encoded(isCompact: true))
            #expect(error?.part == .layerHeaders, "\(dims): \(String(describing: error))")
        }
    }

    /// Layers that claim the same bytes would together take more memory than the file has.
    @Test func sharedData() throws {
        let tensor = ContainerNetwork.SubLayer(
            kind: .weight, type: .u8, dims: [64], data: [UInt8](repeating: 5, count: 64))
        let network = ContainerNetwork(
            layers: (1...2).map { id in
                ContainerNetwork.Layer(
                    id: id, name: "", type: 1,
                    inputs: [ContainerNetwork.Input(layer: id - 1)], subLayers: [tensor])
            })
        for isCompact in [true, false] {
            var bytes = network.encoded(isCompact: isCompact)
            let layers = try ContainerReader(bytes).layers
            // The second layer's data and tensor are said to be the first one's; 40 bytes describe the tensor.
            let header = layers[1].headerPlace
            for at in [header.lowerBound + 16, header.upperBound - 40 + 8] {
                for index in 0..<8 {
                    bytes[at + index] = UInt8(
                        truncatingIfNeeded: layers[0].extent.lowerBound >> (8 * index))
                }
            }
            ChecksumRepair.repair(&bytes)
            do {
                _ = try ContainerReader(bytes)
                Issue.record("it was read")
            } catch {
                #expect(
                    error.part == .layerHeaders && error.problem.contains("overlap"), "\(error)")
            }
        }
    }

    /// The zeros between layers lie under no checksum in a file that is not compact; they are looked at.
    @Test func gaps() throws {
        let bytes = try GraphSamples.tiny.container().encoded()
        let layers = try ContainerReader(bytes, knownFields: [1, 2, 3]).layers
        var found = 0
        for place in layers[0].extent.lowerBound..<bytes.count
        where !layers.contains(where: { $0.extent.contains(place) }) {
            var damaged = bytes
            damaged[place] = 1
            found += 1
            #expect(throws: ContainerError.self) {
                try ContainerReader(damaged, knownFields: [1, 2, 3]).network()
            }
        }
        #expect(found > 0)
    }

    /// A chain longer than any stack is deep.
    @Test func longChains() throws {
        let count = 20_000
        let graph = Graph(
            input: Graph.Input(name: "x", example: [2], quantization: GraphSamples.grid(1)),
            constants: [],
            nodes: (0..<count).map {
                Graph.Node(
                    name: "", op: .reshape(Op.Reshape(to: [-1, 2])),
                    operands: [$0 == 0 ? .input : .node($0 - 1)])
            }, output: .node(count - 1))
        let read = try GraphFile(graph.encoded()).graph()
        #expect(read.nodes.count == count && read.grid(of: read.output) != nil)
    }
}
