import EspalierGraph
import EspalierTensors

/// The frozen tags of fields that make a container hold a graph. A number, once given, is never given to something else.
enum GraphTags {
    // Fields of the network header.

    /// The opset that the file needs, u16. Critical.
    static let opset: UInt16 = 1
    /// What is fed in: name (length as a varint, UTF-8), rank and extents of one example as varints, then the attributes
    /// `grid` where the values are put on a grid first. Critical.
    static let input: UInt16 = 2
    /// The layer whose result is the network's, u32; 0 for the input itself. Critical.
    static let output: UInt16 = 3
    /// Anything that the maker wants to say, opaque here.
    static let description: UInt16 = 4
    /// Name and version of the program that wrote the file, UTF-8.
    static let producer: UInt16 = 5

    /// Those that this version understands.
    static let network: Set<UInt16> = [opset, input, output, description, producer]

    // Fields of a layer.

    /// The attributes of the layer, as `AttributeCoding` has them: the op's own under their frozen tags, and those below.
    /// Critical; absent where there are none.
    static let attributes: UInt16 = 1

    // Attributes beside the op's own, which stay below 0x40.

    /// What happens to the result before it is put on a grid: 1 ReLU. Absent for nothing.
    static let activation: UInt16 = 0x40
    /// Plus 1...3: the tags of `QuantizationParameters.attributes` for the grid of the result, with one scale.
    static let grid: UInt16 = 0x40
    /// Outputs and inputs of the blocks of each masked tensor, in order.
    static let blocks: UInt16 = 0x44
    /// Which operands are constants, rising. Absent where they stand behind all others.
    static let positions: UInt16 = 0x45
    /// Operands that are constants of another operand: position, layer, position there, for each.
    static let shared: UInt16 = 0x46
    /// Names of the layer's constants as lengths each followed by so many bytes of UTF-8. Absent where they are
    /// the layer's name with ".weight" or ".bias".
    static let names: UInt16 = 0x47
    /// Bits, whether symmetric, and the axis of the scales (-1 for one scale) of each tensor of codes. Absent where all
    /// have 8 bits, symmetric, and one scale or one for each index of the first axis.
    static let schemes: UInt16 = 0x48

    /// The attributes of a grid, moved to where files have them.
    static func gridAttributes(_ parameters: QuantizationParameters) -> [Opset.Attribute] {
        parameters.attributes.map { Opset.Attribute(tag: $0.tag + grid, value: $0.value) }
    }

    /// Takes the grid out of attributes.
    ///
    /// - Throws: `OpsetError` where it is impossible.
    static func takeGrid(
        _ attributes: inout [Opset.Attribute]
    ) throws(OpsetError) -> QuantizationParameters? {
        let own = attributes.filter { (grid + 1...grid + 3).contains($0.tag) }
        guard !own.isEmpty else { return nil }
        attributes.removeAll { (grid + 1...grid + 3).contains($0.tag) }
        let parameters = try QuantizationParameters(
            own.map { Opset.Attribute(tag: $0.tag - grid, value: $0.value) })
        guard parameters.isGrid else { throw OpsetError("a grid with more than one scale") }
        return parameters
    }
}

extension QuantizationParameters {
    /// Whether it fits the result of an op: one scale for all.
    var isGrid: Bool { scheme.granularity == .tensor && scales.count == 1 }
}

extension ContainerNetwork {
    /// The field of the network header that describes a graph's input.
    static func field(_ input: Graph.Input) -> ContainerField {
        var writer = ByteWriter()
        writer.addVarint(UInt64(input.name.utf8.count))
        writer.add(input.name.utf8)
        writer.addVarint(UInt64(input.example.rank))
        for extent in input.example { writer.addVarint(UInt64(extent)) }
        if let grid = input.quantization {
            writer.add(AttributeCoding.bytes(GraphTags.gridAttributes(grid)))
        }
        return ContainerField(tag: GraphTags.input, isCritical: true, bytes: writer.bytes)
    }

    /// Reads it back; nil where it is damaged or impossible.
    static func input(_ field: [UInt8]) -> Graph.Input? {
        var reader = ByteReader(field[...])
        guard let length = reader.varint(),
            let bytes = reader.take(Int(clamping: length)),
            let name = String(validating: bytes, as: UTF8.self),
            let rank = reader.varint(), rank < Shape.maximumRank
        else { return nil }
        var example = Shape()
        for _ in 0..<rank {
            guard let extent = reader.varint(), extent > 0, extent <= Graph.maximumElements
            else { return nil }
            example.append(Int(extent))
        }
        guard example.hasSize(upTo: Graph.maximumElements),
            let rest = reader.take(reader.remaining),
            var attributes = AttributeCoding.attributes(Array(rest))
        else { return nil }
        do throws(OpsetError) {
            let grid = try GraphTags.takeGrid(&attributes)
            return attributes.isEmpty
                ? Graph.Input(name: name, example: example, quantization: grid) : nil
        } catch {
            return nil
        }
    }
}
