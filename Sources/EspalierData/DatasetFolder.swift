#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A folder with images and labels under the file names of MNIST: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-...` for the test part and perhaps `dev-...`, each plain or with `.gz`.
public struct DatasetFolder: Sendable, Hashable {
    /// Where it is.
    public let path: String

    /// A part of a data set.
    public enum Part: String, Sendable, CaseIterable {
        case train, dev, test

        fileprivate var prefix: String { self == .test ? "t10k" : rawValue }
    }

    /// A folder that is known to be there.
    public init(path: String) { self.path = path }

    /// The folder of a named data set.
    ///
    /// - Parameter places: Folders to look in, in order.
    /// - Throws: `DataError` with every place that was looked at.
    public static func find(_ name: String, in places: [String]) throws(DataError) -> DatasetFolder
    {
        for place in places {
            let folder = DatasetFolder(path: place + "/" + name)
            if folder.file(.train, "images-idx3") != nil { return folder }
        }
        throw DataError(
            path: name,
            "there is no data set of this name in \(places.joined(separator: ", ")); "
                + "set ESPALIER_DATA to the folder that holds it, or name the folder itself")
    }

    /// Whether it has a part.
    public func has(_ part: Part) -> Bool { file(part, "images-idx3") != nil }

    /// Reads a part.
    ///
    /// - Parameter needsLabels: Whether labels are read; without, all are 0.
    /// - Throws: `DataError` where files are missing or damaged.
    public func load(_ part: Part, needsLabels: Bool = true) throws(DataError) -> ImageExamples {
        let images = try existingFile(part, "images-idx3")
        guard needsLabels else { return try ImageExamples(images: images) }
        return try ImageExamples(images: images, labels: existingFile(part, "labels-idx1"))
    }

    private func existingFile(_ part: Part, _ name: String) throws(DataError) -> String {
        guard let file = file(part, name) else {
            throw DataError(
                path: path, "there is no file \(part.prefix)-\(name)-ubyte, nor with .gz")
        }
        return file
    }

    /// The labels file of a part, for messages.
    public func labelsFile(_ part: Part) -> String {
        file(part, "labels-idx1") ?? "\(path)/\(part.prefix)-labels-idx1-ubyte"
    }

    private func file(_ part: Part, _ name: String) -> String? {
        let plain = "\(path)/\(part.prefix)-\(name)-ubyte"
        return [plain, plain + ".gz"].first { unsafe access($0, R_OK) == 0 }
    }
}
