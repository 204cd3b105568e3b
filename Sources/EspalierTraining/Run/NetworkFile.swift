public import EspalierCodec
public import EspalierData
import EspalierInterchange
public import EspalierNN
import EspalierTensors
import Foundation

/// A trained network in a safetensors file: parameters, buffers, masks, and what is needed to use it.
///
/// Parameters stand under their own names, in our layout (channels last); the mask of `x` is `x.mask`, 64 entries a
/// word. The metadata `espalier` holds the description as JSON.
public struct NetworkFile: Sendable {
    /// What a network is and what it is for.
    public struct Description: Sendable, Codable, Equatable {
        /// Of this description; others are refused.
        public var version = 1
        /// What it is made of.
        public var architecture: Architecture
        /// How its numbers become codes; nil, and not written, for floats.
        public var quantization: NetworkQuantization?
        /// The shape of one example.
        public var input: [Int]
        /// The number of outputs.
        public var classes: Int
        /// What it was trained for.
        public var task: ImageTask
        /// The pixel value that becomes 1.
        public var largestPixel: Double
        /// Where it comes from.
        public var lineage: Lineage
    }

    /// The networks and settings that a network was made from.
    public struct Lineage: Sendable, Codable, Equatable {
        /// The stage that made it.
        public var stage: String
        /// The run's seed.
        public var seed: UInt64
        /// The network that it started from.
        public var startFrom: Ancestor?
        /// The network that taught it.
        public var teacher: Ancestor?
        /// Optimizer steps of it and what it started from.
        public var steps: Int
    }

    /// Another network: its stage or file name, and its file's checksum.
    public struct Ancestor: Sendable, Codable, Equatable {
        /// The stage, or the file's name without its folders.
        public var name: String
        /// Of the file.
        public var checksum: String
    }

    /// What it is and what it is for.
    public let description: Description
    /// The network.
    public let network: Network
    /// The file's checksum.
    public let checksum: String

    init(description: Description, network: Network, checksum: String) {
        self.description = description
        self.network = network
        self.checksum = checksum
    }

    /// Reads a network, from a network file, a checkpoint or a `.espalier` file.
    ///
    /// - Throws: `FileError` where the file is missing, damaged, or not a network of ours.
    public init(contentsOf path: String) throws(FileError) {
        guard !path.hasSuffix(".espalier") else {
            try self.init(deployed: path)
            return
        }
        let file = try SafeTensors(contentsOf: path, requiresChecksum: true)
        let (network, description) = try NetworkFile.network(in: file)
        self.init(
            description: description, network: network, checksum: file.metadata["crc32c"] ?? "")
    }

    /// The network in a file that has been read.
    static func network(in file: SafeTensors) throws(FileError) -> (Network, Description) {
        let description: Description
        do {
            let json = file.metadata["espalier"] ?? ""
            description = try JSONDecoder().decode(Description.self, from: Data(json.utf8))
        } catch {
            throw FileError(
                path: file.path,
                "its metadata does not describe a network; was it written by espalier?")
        }
        guard description.version == 1 else {
            throw FileError(
                path: file.path,
                "its version is \(description.version), this program reads version 1; update espalier"
            )
        }
        let (pixels, overflow) = description.input.reduce((1, false)) { part, extent in
            let (product, overflow) = part.0.multipliedReportingOverflow(by: extent)
            return (product, part.1 || overflow || extent < 1)
        }
        guard (1...3).contains(description.input.count), !overflow, pixels <= 1 << 24,
            description.largestPixel > 0, description.largestPixel <= 255,
            (0...1 << 40).contains(description.lineage.steps)
        else {
            throw FileError(path: file.path, "its description is impossible: \(description)")
        }
        let network: Network
        do {
            let input = Shape(description.input)
            // What the file does not hold is not allocated.
            let count = try description.architecture.parameterCount(
                input: input, classes: description.classes)
            guard count <= file.byteCount / 4 else {
                throw FileError(
                    path: file.path,
                    "its network has \(count) parameters, the file only \(file.byteCount) bytes")
            }
            network = try Network(
                description.architecture, input: input, classes: description.classes,
                quantization: description.quantization, random: RandomStream(seed: 0))
        } catch let error as FileError {
            throw error
        } catch {
            throw FileError(path: file.path, "its architecture is impossible: \(error)")
        }
        let set = ParameterSet(network)
        for entry in set.entries {
            let tensor = try tensor(entry.name, in: file, shape: entry.parameter.shape)
            entry.parameter.assign(tensor)
            guard file.entries[entry.name + ".mask"] != nil else { continue }
            let words = try file.words(entry.name + ".mask")
            let count = tensor.count
            let isComplete =
                words.count == (count + 63) / 64
                && (count % 64 == 0 || words.last.map { $0 >> (count % 64) == 0 } ?? true)
            guard isComplete else {
                throw FileError(path: file.path, "the mask of '\(entry.name)' does not fit it")
            }
            entry.parameter.setMask(Mask(words: words, shape: tensor.shape))
        }
        for (name, buffer) in set.buffers {
            buffer.value = try tensor(name, in: file, shape: buffer.value.shape)
        }
        for (name, site) in network.sites where site.parameters == nil {
            throw FileError(
                path: file.path,
                "the range of '\(name)' is \(site.movingRange.low) to \(site.movingRange.high)")
        }
        return (network, description)
    }

    private static func tensor(
        _ name: String, in file: SafeTensors, shape: Shape
    ) throws(FileError) -> Tensor {
        let tensor = try file.tensor(name)
        guard tensor.shape == shape else {
            throw FileError(
                path: file.path, "tensor '\(name)' has shape \(tensor.shape), \(shape) expected")
        }
        return tensor
    }

    /// A file's content, to which a checkpoint adds its own.
    static func writer(_ network: Network, _ description: Description) throws -> SafeTensors.Writer
    {
        var writer = SafeTensors.Writer()
        writer.metadata["espalier"] = try Self.json(description)
        writer.metadata["format"] = "espalier-network"
        let set = ParameterSet(network)
        for entry in set.entries {
            writer.add(entry.name, entry.parameter.value)
            if let mask = entry.parameter.mask {
                writer.add(entry.name + ".mask", words: mask.words)
            }
        }
        for (name, buffer) in set.buffers { writer.add(name, buffer.value) }
        return writer
    }

    /// JSON with sorted keys: the same text for the same value.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
