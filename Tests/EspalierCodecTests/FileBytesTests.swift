import EspalierCodec
import EspalierTesting
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Files as byte sources, read and mapped.
@Suite struct FileBytesTests {
    private let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    /// Both kinds, opened.
    private func sources(_ path: String) throws -> [any ByteSource] {
        [try FileBytes(path), try MappedBytes(path)]
    }

    @Test func partsAreRead() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/file"
            try FileAccess.writeAtomically(bytes, to: path)
            for source in try sources(path) {
                #expect(source.count == bytes.count)
                for range in [0..<bytes.count, 0..<0, 17..<4_099, 9_999..<10_000, 10_000..<10_000] {
                    #expect(source.read(range) == Array(bytes[range]))
                }
                #expect(source.read(9_999..<10_001) == nil)
                #expect(source.read(-1..<3) == nil)
            }
        }
    }

    @Test func emptyFiles() throws {
        try Fixtures.withFolder { folder in
            try FileAccess.writeAtomically([], to: folder + "/empty")
            for source in try sources(folder + "/empty") {
                #expect(source.count == 0 && source.read(0..<0) == [] && source.read(0..<1) == nil)
            }
        }
    }

    @Test func whatIsNoFile() throws {
        try Fixtures.withFolder { folder in
            #expect(unsafe mkfifo(folder + "/pipe", 0o600) == 0)
            for path in [folder, folder + "/none", folder + "/pipe", "/dev/null", ""] {
                #expect(throws: FileError.self) { try FileBytes(path) }
                #expect(throws: FileError.self) { try MappedBytes(path) }
                #expect(throws: FileError.self) { try FileAccess.read(path) }
            }
        }
    }

    /// A file that shrinks under the reader gives nil; one that is replaced is read as it was.
    @Test func filesThatChange() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/file"
            try FileAccess.writeAtomically(bytes, to: path)
            let opened = try sources(path)
            try FileAccess.writeAtomically([1, 2, 3], to: path)
            for source in opened { #expect(source.read(0..<bytes.count) == bytes) }
            try FileAccess.writeAtomically(bytes, to: path)
            let cut = try sources(path)
            #expect(unsafe truncate(path, 100) == 0)
            for source in cut {
                #expect(source.read(0..<100) == Array(bytes[0..<100]))
                #expect(source.read(50..<101) == nil)
                #expect(source.read(9_000..<9_001) == nil)
            }
        }
    }
}
