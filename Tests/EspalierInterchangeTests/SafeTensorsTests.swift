import EspalierCodec
import EspalierInterchange
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

@Suite struct SafeTensorsTests {
    private func read(_ bytes: [UInt8], requiresChecksum: Bool = true) throws -> SafeTensors {
        try SafeTensors(bytes: bytes, path: "memory", requiresChecksum: requiresChecksum)
    }

    private var writer: SafeTensors.Writer {
        var writer = SafeTensors.Writer()
        writer.metadata = ["format": "test", "quoted \"\\\n\u{1}": "é ☃ 𝄞 \t"]
        writer.add(
            "a.weight",
            Tensor([1, -0.0, .infinity, -2.5, .leastNonzeroMagnitude, 7], shape: [2, 3]))
        writer.add("empty", Tensor.zeros([0, 4]))
        writer.add("scalar \"x\"", Tensor(3.25))
        writer.add("mask", words: [.max, 0x0123_4567_89ab_cdef])
        return writer
    }

    @Test func roundTrip() throws {
        let file = try read(writer.encoded())
        let a = Tensor([1, -0.0, .infinity, -2.5, .leastNonzeroMagnitude, 7], shape: [2, 3])
        #expect(try file.tensor("a.weight").isIdentical(to: a))
        #expect(try file.tensor("empty").shape == [0, 4])
        #expect(try file.tensor("scalar \"x\"").isIdentical(to: Tensor(3.25)))
        #expect(try file.words("mask") == [.max, 0x0123_4567_89ab_cdef])
        #expect(file.metadata["quoted \"\\\n\u{1}"] == "é ☃ 𝄞 \t")
        #expect(file.metadata["format"] == "test")
        #expect(file.entries.count == 4)
        #expect(file.entries["a.weight"]?.shape == [2, 3])
    }

    @Test func nanKeepsItsBits() throws {
        let nan = Tensor([Float(bitPattern: 0x7FC1_2345), -.nan], shape: [2])
        var writer = SafeTensors.Writer()
        writer.add("x", nan)
        #expect(try read(writer.encoded()).tensor("x").isIdentical(to: nan))
    }

    @Test func theSameContentGivesTheSameBytes() {
        #expect(writer.encoded() == writer.encoded())
        #expect(writer.encoded().count % 8 == 4 * 7 % 8)
    }

    @Test func manyRandomTensors() throws {
        for seed in 0..<30 {
            let random = RandomStream(seed: UInt64(seed))
            var writer = SafeTensors.Writer()
            var tensors: [String: Tensor] = [:]
            for (index, count) in random.integers(6, below: 8).enumerated() {
                let shape = Shape(random.child(UInt64(index)).integers(count % 5, below: 4))
                let tensor = Fixtures.normal(shape, seed: UInt64(seed))
                tensors["t\(index)"] = tensor
                writer.add("t\(index)", tensor)
            }
            let file = try read(writer.encoded())
            #expect(Set(file.entries.keys) == Set(tensors.keys))
            for (name, tensor) in tensors {
                #expect(try file.tensor(name).isIdentical(to: tensor))
            }
        }
    }

    @Test func filesOnDisk() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/a.safetensors"
            try writer.write(to: path)
            let file = try SafeTensors(contentsOf: path, requiresChecksum: true)
            #expect(file.entries.count == 4)
            #expect(throws: FileError.self) { try SafeTensors(contentsOf: folder + "/none") }
            #expect(throws: FileError.self) { try SafeTensors(contentsOf: folder) }
        }
    }

    @Test func theWrongTypeIsAnError() throws {
        let file = try read(writer.encoded())
        #expect(throws: FileError.self) { try file.tensor("mask") }
        #expect(throws: FileError.self) { try file.integers("a.weight") }
        #expect(throws: FileError.self) { try file.words("a.weight") }
        #expect(throws: FileError.self) { try file.tensor("nothing") }
    }

    // MARK: Damage

    private var small: [UInt8] {
        var writer = SafeTensors.Writer()
        writer.metadata = ["a": "b"]
        writer.add("x", Tensor([1, 2, 3], shape: [3]))
        writer.add("m", words: [5])
        return writer.encoded()
    }

    @Test func everyTruncationIsFound() throws {
        let bytes = small
        _ = try read(bytes)
        for length in 0..<bytes.count {
            #expect(throws: FileError.self) { try read(Array(bytes.prefix(length))) }
        }
        #expect(throws: FileError.self) { try read(bytes + [0]) }
    }

    @Test func everyFlippedBitIsFound() {
        let bytes = small
        for bit in 0..<8 * bytes.count {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: FileError.self, "bit \(bit)") { try read(damaged) }
        }
    }

    /// Without a checksum damage may go unseen, but it must not trap.
    @Test func damageWithoutChecksumNeverTraps() {
        let bytes = file(
            "{\"x\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}", data: 8)
        var (accepted, refused) = (0, 0)
        func attempt(_ bytes: [UInt8]) {
            do {
                let file = try read(bytes, requiresChecksum: false)
                for name in file.entries.keys {
                    _ = try? file.tensor(name)
                    _ = try? file.integers(name)
                }
                accepted += 1
            } catch {
                refused += 1
            }
        }
        for bit in 0..<8 * bytes.count {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            attempt(damaged)
        }
        for length in 0..<bytes.count { attempt(Array(bytes.prefix(length))) }
        for seed in 0..<300 {
            var damaged = bytes
            let words = RandomStream(seed: UInt64(seed)).words(8)
            for word in words { damaged[Int(word >> 8) % damaged.count] = UInt8(word & 0xFF) }
            attempt(damaged)
        }
        #expect(accepted > 0 && refused > 300)
    }

    // MARK: Headers made by hand

    private func file(_ header: String, data: Int, length: UInt64? = nil) -> [UInt8] {
        let text = Array(header.utf8)
        let length = length ?? UInt64(text.count)
        return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + text
            + [UInt8](repeating: 0, count: data)
    }

    private func entry(_ name: String, _ shape: String, _ offsets: String, _ type: String = "F32")
        -> String
    {
        "\"\(name)\":{\"dtype\":\"\(type)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
    }

    @Test func wellFormedFilesOfOthers() throws {
        let two = entry("b", "[2]", "[4,12]") + "," + entry("a", "[]", "[0,4]")
        #expect(try read(file("{\(two)}", data: 12), requiresChecksum: false).entries.count == 2)
        #expect(try read(file("{}", data: 0), requiresChecksum: false).entries.isEmpty)
        #expect(throws: FileError.self) { try read(file("{}", data: 0)) }
        var halves = file("{\(entry("h", "[4]", "[0,8]", "F16"))}", data: 0)
        halves += [0x00, 0x3C, 0x01, 0x00, 0x00, 0xFC, 0xFF, 0x7B]
        #expect(
            try read(halves, requiresChecksum: false).tensor("h").elements
                == [1, 0x1p-24, -.infinity, 65_504])
        var wide = file("{\(entry("i", "[1]", "[0,8]", "I64"))}", data: 0)
        wide += [0, 0, 0, 0x80, 0, 0, 0, 0]
        let beyond = try read(wide, requiresChecksum: false)
        #expect(throws: FileError.self) { try beyond.integers("i") }
    }

    @Test(arguments: [
        ("overlap", ["\"a\":[2]@[0,8]", "\"b\":[2]@[4,12]"], 12),
        ("gap", ["\"a\":[1]@[0,4]", "\"b\":[1]@[8,12]"], 12),
        ("gap at the front", ["\"a\":[1]@[4,8]"], 8),
        ("data left over", ["\"a\":[1]@[0,4]"], 8),
        ("beyond the end", ["\"a\":[2]@[0,8]"], 4),
        ("wrong size", ["\"a\":[3]@[0,8]"], 8),
        ("the same bytes twice", ["\"a\":[1]@[0,4]", "\"b\":[1]@[0,4]"], 4),
        ("backward offsets", ["\"a\":[1]@[4,0]"], 4),
        ("negative offset", ["\"a\":[1]@[-4,0]"], 0),
        ("offsets at the limits", ["\"a\":[1]@[-9223372036854775808,9223372036854775807]"], 4),
        ("one offset", ["\"a\":[1]@[4]"], 4),
        ("three offsets", ["\"a\":[1]@[0,4,4]"], 4),
        ("negative extent", ["\"a\":[-1]@[0,4]"], 4),
        ("two negative extents", ["\"a\":[-1,-1]@[0,4]"], 4),
        ("extent beyond 31 bits", ["\"a\":[2147483648,0]@[0,0]"], 0),
        ("overflow", ["\"a\":[2147483647,2147483647,2147483647,2147483647]@[0,4]"], 4),
        ("overflow to 0", ["\"a\":[1073741824,1073741824,4]@[0,0]"], 0),
        ("overflow after 0", ["\"a\":[2147483647,2147483647,2147483647,0]@[0,0]"], 0),
        ("extent beyond 64 bits", ["\"a\":[18446744073709551616]@[0,0]"], 0),
        ("fraction", ["\"a\":[1.5]@[0,4]"], 4),
        ("rank 9", ["\"a\":[1,1,1,1,1,1,1,1,1]@[0,4]"], 4),
    ]) func tensorsThatCannotBe(_ name: String, _ tensors: [String], _ data: Int) {
        let entries = tensors.map { text in
            let parts = text.split(separator: "@")
            let (key, shape) = (parts[0].prefix(3), parts[0].dropFirst(4))
            return "\(key):{\"dtype\":\"F32\",\"shape\":\(shape),\"data_offsets\":\(parts[1])}"
        }
        let bytes = file("{" + entries.joined(separator: ",") + "}", data: data)
        #expect(throws: FileError.self, "\(name)") { try read(bytes, requiresChecksum: false) }
    }

    @Test func headersThatCannotBe() {
        let good = "{\(entry("a", "[1]", "[0,4]"))}"
        let files: [[UInt8]] = [
            [], [0, 0, 0], file(good, data: 4, length: .max), file(good, data: 4, length: 1 << 63),
            file(good, data: 4, length: 200_000_000), file(good, data: 4, length: 0),
            file(good, data: 4, length: UInt64(good.utf8.count + 5)),
            file(good, data: 4, length: UInt64(good.utf8.count - 1)),
            file("", data: 0), file("[]", data: 0), file("null", data: 0), file("{", data: 0),
            file("{\"a\":1}", data: 0), file("{\"a\":{}}", data: 0),
            file("{\"__metadata__\":{\"a\":1}}", data: 0),
            file("{\(entry("a", "[1]", "[0,4]", "F31"))}", data: 4),
            file("{\(entry("a", "[]", "[0,4]", ""))}", data: 4),
            file(String(repeating: "[", count: 20_000), data: 0),
            file(String(repeating: "{\"a\":", count: 20_000), data: 0),
            file("{\"__metadata__\":{\"crc32c\":\"\"}}", data: 0),
            file("{\"__metadata__\":{\"crc32c\":\"00000000\"}}", data: 0),
        ]
        for (index, bytes) in files.enumerated() {
            #expect(throws: FileError.self, "file \(index)") {
                try read(bytes, requiresChecksum: false)
            }
        }
    }
}
