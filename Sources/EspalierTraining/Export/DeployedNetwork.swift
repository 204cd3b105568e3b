public import EspalierCodec
public import EspalierData
import EspalierGraph
public import EspalierNN
public import EspalierRuntime
import EspalierTensors
import Foundation

/// A network as it ships: a `.espalier` file that has been read, or one in memory.
public struct DeployedNetwork: Sendable {
    /// What a file says beside its graph.
    public struct Information: Sendable, Codable, Equatable {
        /// What it was trained for.
        public var task: ImageTask
        /// The pixel value that becomes 1.
        public var largestPixel: Double
        /// Where it comes from.
        public var lineage: NetworkFile.Lineage
        /// What it is made of, to train on with it.
        public var architecture: Architecture?
    }

    /// What it is for.
    public let information: Information
    /// What runs.
    public let model: Model
    /// The file's bytes.
    public let byteCount: Int

    /// Reads a file.
    ///
    /// - Parameter isMapped: See `Model.init(path:isMapped:)`.
    /// - Throws: `FileError` where it is missing, damaged, or does not say what it is for.
    public init(contentsOf path: String, isMapped: Bool = false) throws(FileError) {
        let count = try FileBytes(path).count
        do {
            try self.init(Model(path: path, isMapped: isMapped), byteCount: count)
        } catch {
            throw FileError(path: path, error.problem)
        }
    }

    /// Reads a file's bytes.
    ///
    /// - Throws: `ModelError` where they are damaged, or do not say what the network is for.
    public init(bytes: [UInt8]) throws(ModelError) {
        try self.init(Model(bytes: bytes), byteCount: bytes.count)
    }

    private init(_ model: Model, byteCount: Int) throws(ModelError) {
        self.model = model
        self.byteCount = byteCount
        guard
            let information = try? JSONDecoder().decode(
                Information.self, from: Data(model.information ?? [])),
            information.largestPixel > 0, information.largestPixel <= 255
        else { throw ModelError("the file does not say what the network is for") }
        self.information = information
    }

    /// A trained network as the bytes of a file.
    ///
    /// - Throws: `GraphError` where it cannot be exported.
    static func bytes(_ file: NetworkFile) throws -> [UInt8] {
        try bytes(file.network.graph(), file.description)
    }

    static func bytes(
        _ graph: Graph, _ description: NetworkFile.Description
    ) throws -> [UInt8] {
        let information = Information(
            task: description.task, largestPixel: description.largestPixel,
            lineage: description.lineage, architecture: description.architecture.withoutNorms)
        let text = try NetworkFile.json(information)
        return try graph.encoded(
            description: Array(text.utf8), producer: "espalier \(Version.current)")
    }
}
