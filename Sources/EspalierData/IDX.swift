import CZlib

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Data that cannot be used: which file or recipe entry, and why.
public struct DataError: Error, CustomStringConvertible {
    /// The file or folder.
    public let path: String
    /// What is wrong, and what to do.
    public let problem: String

    /// A problem with a file or folder.
    public init(path: String, _ problem: String) {
        self.path = path
        self.problem = problem
    }

    public var description: String { "\(path): \(problem)" }
}

/// An array of bytes in the IDX format of the MNIST data set: two zero bytes, a type, the number of axes, their
/// extents in big-endian order, then the elements.
public struct IDX: Sendable {
    /// The extents, outermost first.
    public let extents: [Int]
    /// The elements in row-major order.
    public let bytes: [UInt8]

    /// Reads a file, plain or gzipped.
    ///
    /// - Throws: `DataError` where it is missing, damaged, not of unsigned bytes or not of `rank` axes.
    public init(contentsOf path: String, rank: Int) throws(DataError) {
        var information = stat()
        guard unsafe stat(path, &information) == 0, information.st_mode & S_IFMT == S_IFREG else {
            throw DataError(path: path, "cannot open it: no such file, or not a file")
        }
        guard let file = unsafe gzopen(path, "rb") else {
            throw DataError(path: path, "cannot open it: no such file, or not readable")
        }
        var isOpen = true
        defer { if isOpen { unsafe gzclose(file) } }
        func read(_ count: Int) throws(DataError) -> [UInt8] {
            var failure: String?
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                while initialized < count {
                    let wanted = UInt32(min(count - initialized, 1 << 20))
                    let got = unsafe gzread(
                        file, buffer.baseAddress?.advanced(by: initialized), wanted)
                    if got <= 0 {
                        var code: Int32 = 0
                        if let message = unsafe gzerror(file, &code), code != Z_OK {
                            failure = unsafe String(cString: message)
                        }
                        return
                    }
                    initialized += Int(got)
                }
            }
            if let failure { throw DataError(path: path, "the file is damaged: \(failure)") }
            return bytes
        }
        let magic = try read(4)
        guard magic.count == 4, magic[0] == 0, magic[1] == 0 else {
            throw DataError(path: path, "not an IDX file: it does not begin with two zero bytes")
        }
        guard magic[2] == 8 else {
            throw DataError(
                path: path, "its elements have type \(magic[2]); 8, unsigned bytes, expected")
        }
        guard magic[3] == rank else {
            throw DataError(path: path, "it has \(magic[3]) axes; \(rank) expected")
        }
        let header = try read(4 * rank)
        guard header.count == 4 * rank else {
            throw DataError(path: path, "its header is cut short")
        }
        var (extents, count) = ([Int](), 1)
        for axis in 0..<rank {
            let extent = header[4 * axis..<4 * axis + 4].reduce(0) { $0 << 8 | Int($1) }
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard !overflow, extent <= Int32.max, product <= 1 << 36 else {
                throw DataError(path: path, "its extents are impossible: \(extents + [extent])...")
            }
            extents.append(extent)
            count = product
        }
        // In pieces, so that a false header cannot ask for more memory than the file fills.
        var bytes: [UInt8] = []
        while bytes.count < count {
            let piece = try read(min(count - bytes.count, 1 << 22))
            bytes += piece
            guard !piece.isEmpty else {
                throw DataError(
                    path: path, "it ends after \(bytes.count) of \(count) elements \(extents)")
            }
        }
        guard try read(1).isEmpty else {
            throw DataError(path: path, "it goes on after its \(count) elements \(extents)")
        }
        isOpen = false
        // A stream that ends before its own checksum is only told of here.
        guard unsafe gzclose_r(file) == Z_OK else {
            throw DataError(path: path, "the file is damaged: its end is missing")
        }
        self.extents = extents
        self.bytes = bytes
    }
}
