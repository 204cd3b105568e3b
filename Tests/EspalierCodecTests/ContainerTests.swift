import EspalierCodec
import EspalierTensors
import Foundation
import Testing

/// Counts what a reader reads.
private final class CountingSource: ByteSource {
    let bytes: [UInt8]
    private(set) var ranges: [Range<Int>] = []

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var count: Int { bytes.count }

    func read(_ range: Range<Int>) -> [UInt8]? {
        ranges.append(range)
        return bytes.read(range)
    }
}

private func floats(_ values: [Float]) -> [UInt8] {
    values.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
    }
}

/// Linear 3 -> 2 and ReLU: the worked example.
private let golden = ContainerNetwork(layers: [
    ContainerNetwork.Layer(
        id: 1, name: "fc", type: 4, inputs: [ContainerNetwork.Input(layer: 0)],
        subLayers: [
            ContainerNetwork.SubLayer(
                kind: .weight, type: .f32, dims: [2, 3], data: floats([1, -2, 0.5, 0, 3, -0.25])),
            ContainerNetwork.SubLayer(kind: .bias, type: .f32, dims: [2], data: floats([0.1, -1])),
        ]),
    ContainerNetwork.Layer(
        id: 2, name: "relu", type: 3, inputs: [ContainerNetwork.Input(layer: 1)]),
])

/// Random networks: chains and graphs, layers without data, tensors of rank 0 to 5, empty ones.
private func network(_ seed: UInt64) -> ContainerNetwork {
    let random = RandomStream(seed: seed)
    var layers: [ContainerNetwork.Layer] = []
    for index in 0..<1 + random.integers(1, below: 6)[0] {
        let own = random.child(UInt64(index))
        let draws = own.integers(8, below: 1000)
        let inputs = (0..<1 + draws[0] % 2).map { part in
            ContainerNetwork.Input(
                layer: index == 0 ? 0 : UInt32(1 + (draws[1] + part) % index),
                port: UInt32(draws[2] % 2))
        }
        let subLayers = (0..<draws[3] % 4).map { part in
            let sizes = own.child(UInt64(part)).integers(6, below: 7)
            let dims = (0..<sizes[0] % 6).map { UInt32(sizes[$0 + 1 < 6 ? $0 + 1 : 5]) }
            let type = ContainerNetwork.ElementType.allCases[draws[4 + part] % 5]
            let count = dims.reduce(type.size) { $0 * Int($1) }
            return ContainerNetwork.SubLayer(
                kind: ContainerNetwork.Kind.allCases[draws[4 + part] % 10], type: type, dims: dims,
                data: own.words(count).map { UInt8(truncatingIfNeeded: $0) })
        }
        let attributes = (0..<draws[7] % 3).map {
            ContainerField(
                tag: UInt16($0 + 10), isCritical: false,
                bytes: [UInt8](repeating: UInt8($0), count: draws[6] % 13))
        }
        layers.append(
            ContainerNetwork.Layer(
                id: UInt32(index + 1), name: "layer \(index) é", type: UInt16(draws[5]),
                inputs: inputs,
                subLayers: subLayers, attributes: attributes))
    }
    return ContainerNetwork(
        layers: layers,
        fields: [ContainerField(tag: 7, isCritical: false, bytes: Array("name".utf8))])
}

@Suite struct ContainerTests {
    @Test("T5 golden file: 392 bytes, frozen")
    func T5_goldenFile() throws {
        let bytes = golden.encoded()
        #expect(bytes.count == 392)
        // Weight at 320, bias at 384, as the layout says.
        let reader = try ContainerReader(bytes)
        #expect(reader.layers[0].places == [320..<344, 384..<392])
        #expect(reader.isSequential)
        #expect(try reader.network() == golden)
        let hex = bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count < 2 ? "0" + digits : digits
        }.joined()
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("container-1.0.hex").path
        let frozen = try String(contentsOfFile: path, encoding: .utf8)
        #expect(hex == frozen.filter { !$0.isWhitespace })
    }

    @Test("T5.1: round trips of random networks", arguments: 0..<200)
    func T5_1_roundTrip(_ seed: Int) throws {
        let original = network(UInt64(seed))
        let bytes = original.encoded()
        #expect(try ContainerReader(bytes).network() == original)
        #expect(original.encoded() == bytes)
    }

    @Test("T5.2: opening reads headers, one layer reads its own data")
    func T5_2_partialDecode() throws {
        let large = ContainerNetwork(layers: [
            golden.layers[0],
            ContainerNetwork.Layer(
                id: 2, name: "large", type: 4, inputs: [ContainerNetwork.Input(layer: 1)],
                subLayers: [
                    ContainerNetwork.SubLayer(
                        kind: .weight, type: .u8, dims: [1000, 1000],
                        data: [UInt8](repeating: 3, count: 1_000_000))
                ]),
            ContainerNetwork.Layer(
                id: 3, name: "relu", type: 3, inputs: [ContainerNetwork.Input(layer: 2)]),
        ])
        let source = CountingSource(large.encoded())
        let reader = try ContainerReader(source)
        #expect(source.ranges.reduce(0) { $0 + $1.count } <= 512)
        let opened = source.ranges.count
        _ = try reader.layer(3)
        #expect(source.ranges.count == opened)
        _ = try reader.layer(1)
        #expect(source.ranges.dropFirst(opened).map(\.count) == [72])
        #expect(try reader.layer(2) == large.layers[1])
    }

    @Test("T5.4: damage in one layer leaves the others readable, and is named")
    func T5_4_damage() throws {
        let bytes = network(17).encoded()
        let whole = try ContainerReader(bytes)
        for layer in whole.layers {
            for place in layer.places where !place.isEmpty {
                var damaged = bytes
                damaged[place.lowerBound] ^= 1
                let reader = try ContainerReader(damaged)
                for other in reader.layers {
                    do {
                        _ = try reader.layer(other.header.id)
                        #expect(other.header.id != layer.header.id)
                    } catch {
                        #expect(error.part == .layer(layer.header.id))
                    }
                }
            }
        }
    }

    @Test(
        "T5.5: every truncation and every flipped bit of a small file is found, and its part named")
    func T5_5_truncationAndFlips() throws {
        let bytes = golden.encoded()
        func problem(_ bytes: [UInt8]) -> ContainerError? {
            do {
                _ = try ContainerReader(bytes).network()
                return nil
            } catch { return error }
        }
        for length in 0..<bytes.count {
            #expect(problem(Array(bytes[..<length])) != nil, "\(length)")
        }
        #expect(problem(bytes + [0]) != nil)
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            let found = problem(damaged)
            // The network header, the layers' headers with the padding behind them, or the first layer's data.
            switch bit / 8 {
            case ..<60: #expect(found?.part == .networkHeader, "bit \(bit)")
            case ..<320: #expect(found?.part == .layerHeaders, "bit \(bit)")
            default: #expect(found?.part == .layer(1), "bit \(bit)")
            }
        }
    }

    @Test("T5.6: unknown fields are skipped, unknown critical ones refuse the file")
    func T5_6_forwardCompatibility() throws {
        var file = golden
        file.fields = [ContainerField(tag: 999, isCritical: false, bytes: [1, 2, 3])]
        #expect(try ContainerReader(file.encoded()).network() == file)
        file.fields[0].isCritical = true
        #expect(throws: ContainerError.self) { try ContainerReader(file.encoded()) }
        #expect(try ContainerReader(file.encoded(), knownFields: [999]).network() == file)
        var newer = golden.encoded()
        newer[4] = 2
        #expect(throws: ContainerError.self) { try ContainerReader(newer) }
    }

    @Test("T5.7: headers under 200 bytes a layer")
    func T5_7_overhead() throws {
        let layers = (1...100).map { id in
            ContainerNetwork.Layer(
                id: UInt32(id), name: "encoder.layer.\(id).weight", type: 4,
                inputs: [ContainerNetwork.Input(layer: UInt32(id - 1))],
                subLayers: golden.layers[0].subLayers)
        }
        let bytes = ContainerNetwork(layers: layers).encoded()
        let reader = try ContainerReader(bytes)
        let first = try #require(reader.layers.first?.places.first)
        #expect(first.lowerBound <= 64 + 64 + 200 * 100)
    }

    @Test("Any bytes give a value or an error")
    func arbitraryBytes() throws {
        for seed in 0..<300 {
            let original = network(UInt64(seed % 20)).encoded()
            let random = RandomStream(seed: UInt64(seed))
            for (index, place) in random.integers(200, below: original.count).enumerated() {
                var bytes = original
                let values = random.child(UInt64(index)).integers(3, below: 256)
                // Several bytes at once, so that counts and offsets become large.
                for step in 0..<1 + values[0] % 8 where place + step < bytes.count {
                    bytes[place + step] = UInt8(values[1 + step % 2])
                }
                _ = try? ContainerReader(bytes).network()
            }
        }
    }
}
