import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// An open file that is read in parts, each when it is asked for.
///
/// A part that is no longer there, because the file was cut off since, is nil.
public final class FileBytes: ByteSource, Sendable {
    public let count: Int
    private let descriptor: Int32

    /// Opens a file.
    ///
    /// - Throws: `FileError` where it does not exist, cannot be read, or is no file but a folder or a pipe.
    public init(_ path: String) throws(FileError) {
        (descriptor, count) = try openFile(path)
    }

    deinit { close(descriptor) }

    public func read(_ range: Range<Int>) -> [UInt8]? {
        guard range.lowerBound >= 0, range.upperBound <= count else { return nil }
        let whole = unsafe [UInt8](unsafeUninitializedCapacity: range.count) { buffer, done in
            while done < range.count {
                let length = unsafe pread(
                    descriptor, buffer.baseAddress?.advanced(by: done), range.count - done,
                    off_t(range.lowerBound + done))
                if length < 0, errno == EINTR { continue }
                if length <= 0 { return }
                done += length
            }
        }
        return whole.count == range.count ? whole : nil
    }
}

/// A file mapped into memory, to read; open as long as this object lives.
///
/// Only for files that are replaced as a whole, by renaming: a page of a file that was cut off cannot be read, which
/// ends the program. Lengths are compared before each read, so that this takes a cut in the very moment of one.
@safe public final class MappedBytes: ByteSource, @unchecked Sendable {
    // Sendable because nothing writes to the pages.
    public let count: Int
    private let descriptor: Int32
    private let base: UnsafeMutableRawPointer?

    /// Maps a file.
    ///
    /// - Throws: `FileError` where it does not exist, cannot be read, or is no file but a folder or a pipe.
    public init(_ path: String) throws(FileError) {
        (descriptor, count) = try openFile(path)
        // There is no map of nothing.
        guard count > 0 else {
            unsafe base = nil
            return
        }
        let address = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            let error = FileError(path: path, action: "map it")
            close(descriptor)
            throw error
        }
        unsafe base = address
    }

    deinit {
        if let base = unsafe base { unsafe munmap(base, count) }
        close(descriptor)
    }

    public func read(_ range: Range<Int>) -> [UInt8]? {
        guard range.lowerBound >= 0, range.upperBound <= count,
            size(of: descriptor).map({ $0 >= range.upperBound }) ?? false
        else { return nil }
        guard let base = unsafe base, !range.isEmpty else { return [] }
        defer { withExtendedLifetime(self) {} }
        return unsafe Array(
            UnsafeRawBufferPointer(start: base.advanced(by: range.lowerBound), count: range.count))
    }
}

/// A descriptor of a regular file, for reading, and the file's size.
func openFile(_ path: String) throws(FileError) -> (descriptor: Int32, size: Int) {
    // Not blocking: to open a pipe would wait for somebody who writes to it. Files are not affected.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open it") }
    guard let size = size(of: descriptor) else {
        close(descriptor)
        throw FileError(path: path, "is not a file")
    }
    return (descriptor, size)
}

// nil where it is no regular file.
private func size(of descriptor: Int32) -> Int? {
    var information = stat()
    guard unsafe fstat(descriptor, &information) == 0,
        information.st_mode & S_IFMT == S_IFREG
    else { return nil }
    return Int(information.st_size)
}
