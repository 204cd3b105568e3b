import EspalierCodec
import EspalierData
import EspalierRuntime
import EspalierTensors

/// A file run on inputs of the user's own.
public struct FileRun: Sendable {
    /// What the network gives for one example.
    public struct Row: Sendable {
        /// The largest output's index, for people who classify.
        public let best: Int
        /// All outputs.
        public let outputs: [Float]
    }

    /// One for each example.
    public let rows: [Row]

    /// Runs a `.espalier` file.
    ///
    /// - Parameter input: Images in the IDX format, scaled as in training; or raw 32-bit floats, little-endian, example
    ///   after example, in a file that ends in `.f32`.
    /// - Throws: `ModelError`, `FileError` or `DataError` where something is missing, damaged or does not fit.
    public init(file: String, input: String) throws {
        let model: Model
        let values: [Float]
        if input.hasSuffix(".f32") {
            model = try Model(path: file)
            let bytes = try FileAccess.read(input)
            guard bytes.count % 4 == 0 else {
                throw FileError(path: input, "\(bytes.count) bytes are no whole number of floats")
            }
            values = stride(from: 0, to: bytes.count, by: 4).map { at in
                Float(
                    bitPattern: (0..<4).reduce(UInt32(0)) {
                        $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1)
                    })
            }
        } else {
            let deployed = try DeployedNetwork(contentsOf: file)
            model = deployed.model
            let images = try ImageExamples(images: input)
            guard Array(images.shape) == model.inputExtents else {
                throw DataError(
                    path: input,
                    "its images are \(images.shape), the network takes \(model.inputExtents)")
            }
            let scale = Float(1 / deployed.information.largestPixel)
            values = images.pixels.map { Float($0) * scale }
        }
        guard model.inputCount > 0, values.count % model.inputCount == 0 else {
            throw FileError(
                path: input,
                "\(values.count) values are no whole number of examples of \(model.inputExtents)")
        }
        let outputs = try model.run(values)
        let width = max(model.outputCount, 1)
        rows = stride(from: 0, to: outputs.count, by: width).map { start in
            let row = Array(outputs[start..<start + width])
            let best = row.indices.reduce(0) { row[$1] > row[$0] ? $1 : $0 }
            return Row(best: best, outputs: row)
        }
    }
}
