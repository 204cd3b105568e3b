/// What is wrong with a file, and in which part of it.
public struct ContainerError: Error, Hashable, CustomStringConvertible {
    /// A part of a file.
    public enum Part: Sendable, Hashable {
        case networkHeader
        case layerHeaders
        /// The data of a layer, by its id.
        case layer(UInt32)
    }

    /// The part.
    public let part: Part
    /// What is wrong with it.
    public let problem: String

    init(_ part: Part, _ problem: String) {
        self.part = part
        self.problem = problem
    }

    public var description: String {
        switch part {
        case .networkHeader: "network header: \(problem)"
        case .layerHeaders: "layer headers: \(problem)"
        case .layer(let id): "layer \(id): \(problem)"
        }
    }
}

/// A field with a tag, as headers carry them behind their fixed part: u16 tag, u16 flags, u32 length, the bytes,
/// zeros to a multiple of 8. A reader skips a tag that it does not know, unless it is critical.
public struct ContainerField: Sendable, Hashable {
    /// What it means; unique within a header.
    public var tag: UInt16
    /// Whether a reader that does not know it must refuse the file.
    public var isCritical: Bool
    /// Its value.
    public var bytes: [UInt8]

    /// A field.
    public init(tag: UInt16, isCritical: Bool, bytes: [UInt8]) {
        self.tag = tag
        self.isCritical = isCritical
        self.bytes = bytes
    }

    func write(to writer: inout ByteWriter) {
        writer.add(tag)
        writer.add(UInt16(isCritical ? 1 : 0))
        writer.add(UInt32(bytes.count))
        writer.add(bytes)
        writer.pad(to: 8)
    }

    /// All fields in some bytes, or nil where they are not well formed.
    static func read(_ bytes: ArraySlice<UInt8>) -> [ContainerField]? {
        var reader = ByteReader(bytes)
        var fields: [ContainerField] = []
        var tags: Set<UInt16> = []
        while reader.remaining > 0 {
            guard let tag = reader.number(UInt16.self), let flags = reader.number(UInt16.self),
                flags <= 1, let count = reader.number(UInt32.self),
                let value = reader.take(Int(count)), reader.padding(to: 8),
                tags.insert(tag).inserted
            else { return nil }
            fields.append(ContainerField(tag: tag, isCritical: flags == 1, bytes: Array(value)))
        }
        return fields
    }
}

/// A network as a file holds it: layers with their data, and how they are joined.
public struct ContainerNetwork: Sendable, Hashable {
    /// Where an input of a layer comes from; layer 0 is the network's own input.
    public struct Input: Sendable, Hashable {
        public var layer: UInt32
        public var port: UInt32

        /// A layer's output.
        public init(layer: UInt32, port: UInt32 = 0) {
            self.layer = layer
            self.port = port
        }
    }

    /// What a sub-layer is to its layer.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case weight = 0
        case bias, scale, zeroPoint, mask, normWeight, normBias, normMean, normVariance, codebook
    }

    /// The type of a sub-layer's elements.
    public enum ElementType: UInt8, Sendable, CaseIterable {
        case f32 = 0
        case i8, u8, i32, u64

        /// Bytes of one.
        public var size: Int {
            switch self {
            case .f32, .i32: 4
            case .i8, .u8: 1
            case .u64: 8
            }
        }
    }

    /// How a tensor's elements are stored. Other numbers are kept for entropy coding; a reader refuses them by number.
    public enum Coding: UInt8, Sendable {
        /// All of them, row-major.
        case all = 0
        /// Those of the blocks that live under the mask which stands before this tensor, block by block.
        case live = 1
    }

    /// A tensor of a layer.
    public struct SubLayer: Sendable, Hashable {
        public var kind: Kind
        public var type: ElementType
        public var coding: Coding
        public var dims: [UInt32]
        /// Its elements as the coding says, little-endian.
        public var data: [UInt8]

        /// A tensor.
        public init(
            kind: Kind, type: ElementType, coding: Coding = .all, dims: [UInt32], data: [UInt8]
        ) {
            self.kind = kind
            self.type = type
            self.coding = coding
            self.dims = dims
            self.data = data
        }
    }

    /// A layer: an operation and its tensors.
    public struct Layer: Sendable, Hashable {
        /// Unique, above 0.
        public var id: UInt32
        public var name: String
        /// The operation's frozen number.
        public var type: UInt16
        public var inputs: [Input]
        public var subLayers: [SubLayer]
        /// Attributes of the operation.
        public var attributes: [ContainerField]

        /// A layer.
        public init(
            id: UInt32, name: String, type: UInt16, inputs: [Input], subLayers: [SubLayer] = [],
            attributes: [ContainerField] = []
        ) {
            self.id = id
            self.name = name
            self.type = type
            self.inputs = inputs
            self.subLayers = subLayers
            self.attributes = attributes
        }
    }

    /// In an order in which inputs come before those who use them.
    public var layers: [Layer]
    /// Facts about the whole network.
    public var fields: [ContainerField]

    /// A network.
    public init(layers: [Layer], fields: [ContainerField] = []) {
        self.layers = layers
        self.fields = fields
    }
}

/// Sizes and places that the format fixes.
enum ContainerLayout {
    static let magic: [UInt8] = Array("ESPL".utf8)
    static let major: UInt16 = 1
    static let minor: UInt16 = 0
    static let networkHeaderBytes = 64
    static let layerHeaderBytes = 48
    static let subLayerHeaderBytes = 32
    /// Data begin at multiples of this, ready for kernels.
    static let dataAlignment = 64
    /// In a compact file, data of less than `largeData` bytes begin at multiples of this. Zeros up to a multiple of 64
    /// would be a tenth of a file of a dozen small tensors; before 4096 bytes they are at most 1.6 %.
    static let smallAlignment = 8
    static let largeData = 4096
    static let graphFlag: UInt32 = 1
    /// Bits 1 and 2 are kept for global quantization and for entropy coding.
    static let compactFlag: UInt32 = 8
    static let none: UInt32 = .max
    static let maximumRank = 8

    /// Where data of `count` bytes may begin.
    static func alignment(of count: Int, isCompact: Bool) -> Int {
        isCompact && count < largeData ? smallAlignment : dataAlignment
    }

    static func aligned(_ position: Int, to alignment: Int = dataAlignment) -> Int {
        (position + alignment - 1) / alignment * alignment
    }
}
