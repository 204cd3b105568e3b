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
                try self.init(MappedBytes(path), path)
            } else {
                try self.init(FileAccess.read(path), path)
            }
        } catch {
            throw ModelError("\(error)")
        }
    }

    /// A model of a file's bytes.
    ///
    /// - Throws: `ModelError` where they are damaged, or hold what this runtime cannot run.
    public convenience init(bytes: [UInt8]) throws(ModelError) {
        do throws(FileError) {
            try self.init(bytes, "the file")
        } catch {
            throw ModelError("\(error)")
        }
    }

    private convenience init(_ source: some ByteSource, _ path: String) throws(FileError) {
        let problem: String
        do {
            let file = try GraphFile(source)
            try self.init(file.graph(), information: file.description)
            return
        } catch {
            problem = "\(error)"
        }
        throw FileError(path: path, problem)
    }
}
