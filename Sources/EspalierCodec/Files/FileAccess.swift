#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A file that cannot be read or written.
public struct FileError: Error, CustomStringConvertible {
    /// The file.
    public let path: String
    /// What went wrong, and what to do.
    public let problem: String

    /// A problem with a file.
    public init(path: String, _ problem: String) {
        self.path = path
        self.problem = problem
    }

    /// The problem that `errno` names, after `action` has failed.
    init(path: String, action: String, code: Int32 = errno) {
        let reason = unsafe String(cString: strerror(code))
        let advice = code == ENOSPC ? "; free some space and run again" : ""
        self.init(path: path, "cannot \(action): \(reason)\(advice)")
    }

    public var description: String { "\(path): \(problem)" }
}

/// Whole files in and out.
package enum FileAccess {
    /// The bytes of a file.
    ///
    /// - Throws: `FileError` where it does not exist or cannot be read.
    package static func read(_ path: String) throws(FileError) -> [UInt8] {
        let (descriptor, size) = try openFile(path)
        defer { close(descriptor) }
        var failure: FileError?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
            while initialized < size {
                let count = unsafe readDescriptor(
                    descriptor, buffer.baseAddress?.advanced(by: initialized), size - initialized)
                if count < 0, errno == EINTR { continue }
                if count < 0 { failure = FileError(path: path, action: "read it") }
                if count <= 0 { return }
                initialized += count
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// How far an atomic write has come.
    package enum WriteStep: Sendable, Hashable {
        case opened
        /// This many bytes of the temporary file are written.
        case wrote(Int)
        case synchronized
        case renamed
    }

    /// Replaces a file in one step: a reader sees the old one or the new one, whatever happens in between.
    ///
    /// - Parameter observe: Told of each step, so that tests can interrupt the write anywhere.
    /// - Throws: `FileError`; the old file, if any, is then as it was.
    package static func writeAtomically(
        _ bytes: [UInt8], to path: String, observe: (WriteStep) -> Void = { _ in }
    ) throws(FileError) {
        let temporary = path + ".part"
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileError(path: path, action: "create it") }
        observe(.opened)
        var written = 0
        while written < bytes.count {
            let length = min(bytes.count - written, 1 << 14)
            let count = unsafe bytes.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress?.advanced(by: written), length)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = FileError(path: path, action: "write it")
                close(descriptor)
                unsafe unlink(temporary)
                throw error
            }
            written += count
            observe(.wrote(written))
        }
        guard fsync(descriptor) == 0 else {
            let error = FileError(path: path, action: "write it to the disk")
            close(descriptor)
            unsafe unlink(temporary)
            throw error
        }
        guard close(descriptor) == 0 else {
            let error = FileError(path: path, action: "write it to the disk")
            unsafe unlink(temporary)
            throw error
        }
        observe(.synchronized)
        guard unsafe rename(temporary, path) == 0 else {
            let error = FileError(path: path, action: "put it in place")
            unsafe unlink(temporary)
            throw error
        }
        observe(.renamed)
        synchronizeFolder(of: path)
    }

    // So that the new name outlives a power failure too. Some file systems refuse; the content is safe then.
    private static func synchronizeFolder(of path: String) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let descriptor = unsafe open(folder.isEmpty ? "/" : folder, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    /// Makes a folder and those above it.
    package static func makeFolder(_ path: String) throws(FileError) {
        var prefix = path.hasPrefix("/") ? "/" : ""
        for component in path.split(separator: "/") {
            prefix += component + "/"
            guard unsafe mkdir(prefix, 0o755) == 0 || errno == EEXIST else {
                throw FileError(path: path, action: "make the folder")
            }
        }
    }

    /// A file that one process at a time may hold; freed when the value goes, or the process ends.
    package final class Lock {
        private let descriptor: Int32

        /// Takes hold of a file, made where it is missing.
        ///
        /// - Throws: `FileError` where another process holds it.
        package init(_ path: String) throws(FileError) {
            descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw FileError(path: path, action: "create it") }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                close(descriptor)
                throw FileError(path: path, "another process is at work in this folder")
            }
        }

        deinit { close(descriptor) }
    }

    /// The names in a folder; none where it cannot be read.
    package static func names(in folder: String) -> [String] {
        guard let listing = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(listing) }
        var names: [String] = []
        while let entry = unsafe readdir(listing) {
            let name = unsafe withUnsafePointer(to: entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe String(cString: $0)
                }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Whether a path is a folder.
    package static func isFolder(_ path: String) -> Bool {
        var information = stat()
        return unsafe stat(path, &information) == 0 && information.st_mode & S_IFMT == S_IFDIR
    }

    /// Whether something is there.
    package static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
}

// `read` would name the method above.
private func readDescriptor(_ descriptor: Int32, _ target: UnsafeMutableRawPointer?, _ count: Int)
    -> Int
{
    unsafe read(descriptor, target, count)
}
