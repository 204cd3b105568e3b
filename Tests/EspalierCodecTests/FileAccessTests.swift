import EspalierCodec
import EspalierTesting
import Foundation
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

@Suite struct FileAccessTests {
    private let old = [UInt8](repeating: 1, count: 1_000)
    private let new = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    private func contents(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test func writtenBytesAreRead() throws {
        try Fixtures.withFolder { folder in
            for size in [0, 1, 65_535, 65_536, 65_537, 200_000] {
                let path = folder + "/\(size)"
                try FileAccess.writeAtomically(Array(new.prefix(size)), to: path)
                #expect(try FileAccess.read(path) == Array(new.prefix(size)))
            }
        }
    }

    /// At every step before the last, the old file is there as it was; afterwards, the new one.
    @Test func theFileIsReplacedInOneStep() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/file"
            try FileAccess.writeAtomically(old, to: path)
            var steps: [FileAccess.WriteStep] = []
            try FileAccess.writeAtomically(new, to: path) { step in
                steps.append(step)
                let seen = try? FileAccess.read(path)
                #expect(seen == (step == .renamed ? new : old), "\(step)")
            }
            #expect(steps.first == .opened)
            #expect(steps.suffix(2) == [.synchronized, .renamed])
            #expect(steps.contains(.wrote(new.count)))
            #expect(steps.count > 5)
            #expect(try contents(folder) == ["file"])
        }
    }

    @Test func aFolderThatIsMissing() throws {
        try Fixtures.withFolder { folder in
            #expect(throws: FileError.self) {
                try FileAccess.writeAtomically(old, to: folder + "/none/file")
            }
            #expect(throws: FileError.self) { try FileAccess.read(folder + "/none/file") }
            let left = try contents(folder)
            #expect(left.isEmpty)
        }
    }

    /// A folder stands where the file should be: the rename fails, and nothing is left behind.
    @Test func aRenameThatFails() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/taken"
            try FileAccess.makeFolder(path + "/inside")
            #expect(throws: FileError.self) { try FileAccess.writeAtomically(old, to: path) }
            let left = try contents(folder)
            #expect(left == ["taken"])
        }
    }

    /// The disk is full after some bytes: here a limit on the size of files stands for it.
    @Test(arguments: [0, 1, 70_000, 199_999])
    func aWriteThatFailsLeavesTheOldFile(_ limit: Int) async {
        await #expect(processExitsWith: .success) { [limit] in
            let folder = NSTemporaryDirectory() + "espalier-limit-\(limit)-\(getpid())"
            try FileAccess.makeFolder(folder)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            let path = folder + "/file"
            let old = [UInt8](repeating: 1, count: 1_000)
            try FileAccess.writeAtomically(old, to: path)
            _ = signal(SIGXFSZ, SIG_IGN)
            var bound = rlimit()
            guard unsafe getrlimit(fileSize, &bound) == 0 else { exit(6) }
            bound.rlim_cur = rlim_t(limit)
            guard unsafe setrlimit(fileSize, &bound) == 0 else { exit(7) }
            do {
                try FileAccess.writeAtomically([UInt8](repeating: 2, count: 200_000), to: path)
                exit(8)
            } catch let error as FileError {
                guard error.path == path, error.problem.hasPrefix("cannot write it") else {
                    exit(9)
                }
            }
            guard try FileAccess.read(path) == old else { exit(10) }
            guard try FileManager.default.contentsOfDirectory(atPath: folder) == ["file"] else {
                exit(11)
            }
        }
    }

    @Test func folders() throws {
        try Fixtures.withFolder { folder in
            try FileAccess.makeFolder(folder + "/a/b/c")
            try FileAccess.makeFolder(folder + "/a/b/c")
            #expect(FileAccess.exists(folder + "/a/b/c"))
            #expect(!FileAccess.exists(folder + "/a/c"))
            try FileAccess.writeAtomically(old, to: folder + "/a/file")
            #expect(throws: FileError.self) { try FileAccess.makeFolder(folder + "/a/file/d") }
        }
    }
}

#if canImport(Glibc)
    private let fileSize = __rlimit_resource_t(RLIMIT_FSIZE.rawValue)
#else
    private let fileSize = RLIMIT_FSIZE
#endif
