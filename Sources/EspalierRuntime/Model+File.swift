import EspalierCodec

extension Model {
    /// Opens a `.espalier` file.
    ///
    /// - Parameter isMapped: Whether the file is mapped into memory rather than read. Only for files that are replaced as a
    ///   whole: one that is cut off while it is mapped ends the program.
    /// - Throws: `ModelError` where the file is missing, damaged, or holds what this runtime cannot run, with the part that
    ///   is damaged.
    public convenience init(path: String, isMapped: Bool = false) throws(ModelError) {
        do throws(FileError) {
            if isMapped {
                try self.init(MappedBytes(path), path, Limits())
            } else {
                try self.init(FileAccess.read(path), path, Limits())
            }
        } catch {
            throw ModelError("\(error)")
        }
    }

    /// A model of a file's bytes.
    ///
    /// - Throws: `ModelError` where they are damaged, or hold what this runtime cannot run.
    public convenience init(bytes: [UInt8]) throws(ModelError) {
        try self.init(bytes: bytes, limits: Limits())
    }

    /// The same within limits of the caller's own.
    package convenience init(bytes: [UInt8], limits: Limits) throws(ModelError) {
        do throws(FileError) {
            try self.init(bytes, "the file", limits)
        } catch {
            throw ModelError("\(error)")
        }
    }

    private convenience init(
        _ source: some ByteSource, _ path: String, _ limits: Limits
    ) throws(FileError) {
        let problem: String
        do {
            let file = try GraphFile(source)
            try self.init(file.graph(), information: file.description, limits: limits)
            return
        } catch {
            problem = "\(error)"
        }
        throw FileError(path: path, problem)
    }
}
