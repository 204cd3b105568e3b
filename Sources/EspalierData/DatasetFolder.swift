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
                + "set ESPALIER_DATA to the folder that holds it, or give `folder:`")
    }

    /// Whether it has a part.
    public func has(_ part: Part) -> Bool { file(part, "images-idx3") != nil }

    /// Reads a part.
    ///
    /// - Throws: `DataError` where files are missing or damaged.
    public func load(_ part: Part) throws(DataError) -> ImageExamples {
        let names = ["images-idx3", "labels-idx1"]
        var found: [String] = []
        for name in names {
            guard let file = file(part, name) else {
                throw DataError(
                    path: path, "there is no file \(part.prefix)-\(name)-ubyte, nor with .gz")
            }
            found.append(file)
        }
        return try ImageExamples(images: found[0], labels: found[1])
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
