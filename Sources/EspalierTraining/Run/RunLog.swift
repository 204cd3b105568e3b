import EspalierCodec
import Foundation

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A run's log: one JSON object a line, the same bytes for the same run. A resume cuts off what came after the
/// state that it goes on from.
package final class RunLog {
    private let path: String
    private(set) var length: Int

    /// Opens the log, keeping its first `length` bytes.
    package init(path: String, length: Int) throws {
        self.path = path
        self.length = length
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileError(path: path, "cannot be opened for writing") }
        defer { close(descriptor) }
        let present = lseek(descriptor, 0, SEEK_END)
        guard present >= length else {
            throw FileError(
                path: path,
                "has \(present) bytes, the checkpoint knows of \(length); it was cut short")
        }
        guard ftruncate(descriptor, off_t(length)) == 0 else {
            throw FileError(path: path, "cannot be shortened to what the checkpoint knows")
        }
    }

    /// Adds a line.
    func append(_ event: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let bytes = Array(try encoder.encode(event)) + [UInt8(ascii: "\n")]
        let descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(path: path, "cannot be opened for writing") }
        defer { close(descriptor) }
        let written = unsafe bytes.withUnsafeBytes {
            unsafe write(descriptor, $0.baseAddress, $0.count)
        }
        guard written == bytes.count else {
            _ = ftruncate(descriptor, off_t(length))
            throw FileError(path: path, "cannot be written: is the disk full?")
        }
        length += bytes.count
    }

    /// Puts what is written on the disk: before a checkpoint, which counts on it.
    func synchronize() throws {
        let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0, fsync(descriptor) == 0, close(descriptor) == 0 else {
            throw FileError(path: path, "cannot be written to the disk")
        }
    }
}
