import EspalierCodec

extension Model {
    /// Opens a `.espalier` file.
    ///
    /// - Parameter isMapped: Whether the file is mapped into memory rather than read. Only for files that are replaced as a
    ///   whole: one that is cut off while it is mapped ends the program.
    /// - Throws: `ModelError` where the file is missing, damaged, or holds what this runtime cannot run, with the part that
    ///   is damaged.
    public convenience init(path: String, isMapped: Bool = false) throws(ModelError) {
        do {
            if isMapped {
                try self.init(MappedBytes(path), Limits())
            } else {
                try self.init(FileAccess.read(path), Limits())
            }
        } catch let error as FileError {
            throw ModelError(path: error.path, error.problem)
        } catch let error as ModelError {
            throw ModelError(path: path, error.problem)
        } catch {
            throw ModelError(path: path, "\(error)")
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
        try self.init(bytes, limits)
    }

    private convenience init(_ source: some ByteSource, _ limits: Limits) throws(ModelError) {
        let problem: String
        do {
            let file = try GraphFile(source)
            try self.init(file.graph(), information: file.description, limits: limits)
            return
        } catch {
            problem = "\(error)"
        }
        throw ModelError(problem)
    }
}
