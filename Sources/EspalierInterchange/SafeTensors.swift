public import EspalierCodec
import EspalierKernels
public import EspalierTensors
import Foundation

/// A file in the safetensors format: named tensors behind a JSON header.
///
/// 8 bytes of little-endian header length, the header, then the data, row-major and little-endian, without gaps
/// (github.com/huggingface/safetensors). Files that we write carry a CRC-32C of the whole file in their metadata.
public struct SafeTensors: Sendable {
    /// An element type of the format.
    public enum ElementType: String, Sendable, Codable {
        case f64 = "F64"
        case f32 = "F32"
        case f16 = "F16"
        case bf16 = "BF16"
        case i64 = "I64"
        case i32 = "I32"
        case i16 = "I16"
        case i8 = "I8"
        case u64 = "U64"
        case u32 = "U32"
        case u16 = "U16"
        case u8 = "U8"
        case bool = "BOOL"

        /// Bytes of one element.
        public var size: Int {
            switch self {
            case .f64, .i64, .u64: 8
            case .f32, .i32, .u32: 4
            case .f16, .bf16, .i16, .u16: 2
            case .i8, .u8, .bool: 1
            }
        }
    }

    /// A tensor's place in the file.
    public struct Entry: Sendable {
        /// Its element type.
        public let type: ElementType
        /// Its extents.
        public let shape: [Int]
        /// Its bytes, counted from the end of the header.
        let range: Range<Int>
    }

    /// The file, for error messages.
    public let path: String
    /// The header's `__metadata__`.
    public let metadata: [String: String]
    /// The tensors by name.
    public let entries: [String: Entry]
    private let bytes: [UInt8]
    private let dataStart: Int

    /// Reads a file.
    ///
    /// - Parameter requiresChecksum: Whether a file without our checksum is refused; one that has it is always checked.
    /// - Throws: `FileError` that says what is wrong with it.
    public init(contentsOf path: String, requiresChecksum: Bool = false) throws(FileError) {
        try self.init(
            bytes: FileAccess.read(path), path: path, requiresChecksum: requiresChecksum)
    }

    /// Reads a file's bytes. Any byte string gives a value or an error.
    package init(bytes: [UInt8], path: String, requiresChecksum: Bool) throws(FileError) {
        func fail(_ problem: String) -> FileError {
            FileError(path: path, problem + "; the file is damaged or not a safetensors file")
        }
        guard bytes.count >= 8 else {
            throw fail("it has \(bytes.count) bytes, at least 8 expected")
        }
        var length: UInt64 = 0
        for index in 0..<8 { length |= UInt64(bytes[index]) << (8 * index) }
        guard length <= UInt64(bytes.count - 8), length <= 100_000_000 else {
            throw fail("a header of \(length) bytes does not fit into \(bytes.count) bytes")
        }
        dataStart = 8 + Int(length)
        let header: Header
        do {
            header = try JSONDecoder().decode(Header.self, from: Data(bytes[8..<dataStart]))
        } catch {
            throw fail("its header is not the JSON that is expected")
        }
        self.path = path
        self.bytes = bytes
        metadata = header.metadata
        if let stored = metadata[Checksum.key] {
            guard let actual = Checksum.compute(bytes, header: 8..<dataStart), actual == stored
            else { throw fail("its checksum does not match its content") }
        } else if requiresChecksum {
            throw fail("it carries no checksum")
        }
        let size = bytes.count - dataStart
        var entries: [String: Entry] = [:]
        for (name, raw) in header.tensors {
            guard let type = ElementType(rawValue: raw.dtype) else {
                throw fail("tensor '\(name)' has the unknown type '\(raw.dtype)'")
            }
            var count = type.size
            for extent in raw.shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: extent)
                guard extent >= 0, extent <= Int32.max, !overflow else {
                    throw fail("tensor '\(name)' has the impossible shape \(raw.shape)")
                }
                count = product
            }
            guard raw.shape.count <= Shape.maximumRank, raw.data_offsets.count == 2,
                raw.data_offsets[0] >= 0, raw.data_offsets[0] <= raw.data_offsets[1],
                raw.data_offsets[1] <= size, raw.data_offsets[1] - raw.data_offsets[0] == count
            else {
                throw fail(
                    "tensor '\(name)' of \(type.rawValue) \(raw.shape) needs \(count) bytes, "
                        + "its offsets are \(raw.data_offsets) in \(size) bytes of data")
            }
            let range = raw.data_offsets[0]..<raw.data_offsets[1]
            entries[name] = Entry(type: type, shape: raw.shape, range: range)
        }
        var end = 0
        let ranges = entries.values.map(\.range).sorted {
            ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound)
        }
        for range in ranges {
            guard range.lowerBound == end else { throw fail("its tensors overlap or leave gaps") }
            end = range.upperBound
        }
        guard end == size else { throw fail("its tensors cover \(end) of \(size) bytes of data") }
        self.entries = entries
    }

    /// The size of the whole file.
    package var byteCount: Int { bytes.count }

    private struct Header: Decodable {
        struct Raw: Decodable {
            let dtype: String
            let shape: [Int]
            let data_offsets: [Int]
        }

        struct Key: CodingKey {
            let stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        var metadata: [String: String] = [:]
        var tensors: [String: Raw] = [:]

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            for key in container.allKeys {
                if key.stringValue == "__metadata__" {
                    metadata = try container.decode([String: String].self, forKey: key)
                } else {
                    tensors[key.stringValue] = try container.decode(Raw.self, forKey: key)
                }
            }
        }
    }
}

// MARK: - Tensors

extension SafeTensors {
    /// The floats of a tensor of a floating-point type.
    ///
    /// - Throws: `FileError` where there is none of that name or its type is another.
    public func tensor(_ name: String) throws(FileError) -> Tensor {
        let entry = try entry(name)
        let shape = Shape(entry.shape)
        let data = data(of: entry)
        let values: [Float]
        switch entry.type {
        case .f32: values = unpack(data, UInt32.self) { Float(bitPattern: $0) }
        case .f64: values = unpack(data, UInt64.self) { Float(Double(bitPattern: $0)) }
        case .bf16: values = unpack(data, UInt16.self) { Float(bitPattern: UInt32($0) << 16) }
        case .f16: values = unpack(data, UInt16.self) { SafeTensors.float(half: $0) }
        default:
            throw FileError(
                path: path, "tensor '\(name)' has the type \(entry.type.rawValue), floats expected")
        }
        return Tensor(values, shape: shape)
    }

    /// The integers of a tensor of an integer type.
    ///
    /// - Throws: `FileError` where there is none of that name, its type is another, or a value needs more than 32 bits.
    public func integers(_ name: String) throws(FileError) -> IndexTensor {
        let entry = try entry(name)
        let data = data(of: entry)
        let wide: [Int64]
        switch entry.type {
        case .i64: wide = unpack(data, UInt64.self) { Int64(bitPattern: $0) }
        case .i32: wide = unpack(data, UInt32.self) { Int64(Int32(bitPattern: $0)) }
        case .i16: wide = unpack(data, UInt16.self) { Int64(Int16(bitPattern: $0)) }
        case .u16: wide = unpack(data, UInt16.self) { Int64($0) }
        case .i8: wide = unpack(data, UInt8.self) { Int64(Int8(bitPattern: $0)) }
        case .u8, .bool: wide = unpack(data, UInt8.self) { Int64($0) }
        default:
            throw FileError(
                path: path,
                "tensor '\(name)' has the type \(entry.type.rawValue), integers expected")
        }
        var narrow: [Int32] = []
        narrow.reserveCapacity(wide.count)
        for value in wide {
            guard let exact = Int32(exactly: value) else {
                throw FileError(path: path, "tensor '\(name)' holds \(value): beyond 32 bits")
            }
            narrow.append(exact)
        }
        return IndexTensor(narrow, shape: Shape(entry.shape))
    }

    /// The doubles of a tensor of type F64.
    package func doubles(_ name: String) throws(FileError) -> [Double] {
        let entry = try entry(name)
        guard entry.type == .f64 else {
            throw FileError(path: path, "tensor '\(name)' has the type \(entry.type.rawValue)")
        }
        return unpack(data(of: entry), UInt64.self) { Double(bitPattern: $0) }
    }

    /// The raw little-endian words of a mask that `Writer.add(_:words:)` stored.
    package func words(_ name: String) throws(FileError) -> [UInt64] {
        let entry = try entry(name)
        guard entry.type == .u64 else {
            throw FileError(path: path, "tensor '\(name)' has the type \(entry.type.rawValue)")
        }
        return unpack(data(of: entry), UInt64.self) { $0 }
    }

    private func entry(_ name: String) throws(FileError) -> Entry {
        guard let entry = entries[name] else {
            throw FileError(path: path, "there is no tensor '\(name)' in it")
        }
        return entry
    }

    private func data(of entry: Entry) -> ArraySlice<UInt8> {
        bytes[dataStart + entry.range.lowerBound..<dataStart + entry.range.upperBound]
    }

    private func unpack<Word: FixedWidthInteger, Element>(
        _ data: ArraySlice<UInt8>, _ type: Word.Type, _ convert: (Word) -> Element
    ) -> [Element] {
        let size = MemoryLayout<Word>.size
        return unsafe data.withUnsafeBytes { raw in
            (0..<raw.count / size).map {
                convert(
                    Word(
                        littleEndian: unsafe raw.loadUnaligned(
                            fromByteOffset: $0 * size, as: Word.self)))
            }
        }
    }

    // Float16 does not exist on every platform.
    static func float(half: UInt16) -> Float {
        let sign = UInt32(half >> 15) << 31
        let (exponent, fraction) = (UInt32(half >> 10 & 31), UInt32(half & 1023))
        switch exponent {
        case 0:
            let magnitude = Float(fraction) * 0x1p-24
            return sign == 0 ? magnitude : -magnitude
        case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
        default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
        }
    }
}

/// The CRC-32C of a whole file, eight hexadecimal digits in its own header; they count as zeros.
enum Checksum {
    static let key = "crc32c"
    static let blank = "00000000"
    private static let marker = Array("\"\(key)\":\"".utf8)

    /// The checksum of a file, or nil where its header has no place for one.
    static func compute(_ bytes: [UInt8], header: Range<Int>) -> String? {
        guard let place = place(in: bytes, header: header) else { return nil }
        let file = bytes.span
        var crc = Kernels.crc32c(file.extracting(0..<place.lowerBound))
        crc = Kernels.crc32c(Array(blank.utf8).span, continuing: crc)
        crc = Kernels.crc32c(
            file.extracting(place.upperBound..<bytes.count), continuing: crc)
        let digits = String(crc, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }

    /// Where the digits stand.
    static func place(in bytes: [UInt8], header: Range<Int>) -> Range<Int>? {
        let length = marker.count + blank.utf8.count
        guard header.count >= length else { return nil }
        for start in header.lowerBound...header.upperBound - length
        where bytes[start..<start + marker.count].elementsEqual(marker) {
            return start + marker.count..<start + length
        }
        return nil
    }
}
