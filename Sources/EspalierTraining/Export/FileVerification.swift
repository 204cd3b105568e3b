public import EspalierCodec
import EspalierRuntime

/// A `.espalier` file read as a whole, every part of it checked, and planned.
public struct FileVerification: CustomStringConvertible {
    public let description: String

    /// Checks a file.
    ///
    /// - Throws: `FileError` where it is missing or damaged, or cannot be run.
    public init(_ path: String) throws(FileError) {
        let bytes = try FileAccess.read(path)
        do throws(ModelError) {
            let model = try Model(bytes: bytes)
            description =
                "\(path): \(bytes.count) bytes, takes \(model.inputExtents), gives "
                + "\(model.outputExtents); every checksum matches, and it can be run"
        } catch {
            throw FileError(path: path, "\(error)")
        }
    }
}
