public import EspalierCodec
public import EspalierTensors

extension SafeTensors {
    /// Collects tensors and writes them as one file, the same bytes for the same content.
    public struct Writer: Sendable {
        private typealias Entry = (name: String, type: ElementType, shape: [Int], data: [UInt8])
        private var entries: [Entry] = []
        /// The header's `__metadata__`.
        public var metadata: [String: String] = [:]

        /// A file without tensors.
        public init() {}

        /// Adds floats.
        public mutating func add(_ name: String, _ tensor: Tensor) {
            var data: [UInt8] = []
            data.reserveCapacity(4 * tensor.count)
            unsafe tensor.reading { elements in
                #if _endian(little)
                    let raw = unsafe UnsafeRawBufferPointer(
                        start: elements, count: 4 * tensor.count)
                    unsafe data.append(contentsOf: raw)
                #else
                    #error("the format is little-endian")
                #endif
            }
            append((name, .f32, Array(tensor.shape), data))
        }

        /// Adds integers as elements of an integer type of 8, 16 or 32 bits.
        ///
        /// - Precondition: all fit.
        public mutating func add(_ name: String, integers: IndexTensor, type: ElementType = .i32) {
            var data: [UInt8] = []
            func append<Word: FixedWidthInteger>(_ word: Word.Type) {
                data.reserveCapacity(integers.count * MemoryLayout<Word>.size)
                for value in integers.elements {
                    guard let exact = Word(exactly: value) else {
                        require(false, "tensor '\(name)' holds \(value), not a \(type.rawValue)")
                        return
                    }
                    SafeTensors.append(exact, to: &data)
                }
            }
            switch type {
            case .i8: append(Int8.self)
            case .u8: append(UInt8.self)
            case .i16: append(Int16.self)
            case .u16: append(UInt16.self)
            case .i32: append(Int32.self)
            default: require(false, "integers as \(type.rawValue)")
            }
            self.append((name, type, Array(integers.shape), data))
        }

        /// Adds the words of a mask.
        package mutating func add(_ name: String, words: [UInt64]) {
            var data: [UInt8] = []
            data.reserveCapacity(8 * words.count)
            for word in words { SafeTensors.append(word, to: &data) }
            append((name, .u64, [words.count], data))
        }

        private mutating func append(_ entry: Entry) {
            require(
                !entries.contains { $0.name == entry.name }, "two tensors are named '\(entry.name)'"
            )
            entries.append(entry)
        }

        /// The bytes of the file.
        package func encoded() -> [UInt8] {
            var metadata = metadata
            metadata[Checksum.key] = Checksum.blank
            var parts = [
                "\"__metadata__\":{"
                    + metadata.sorted { $0.key < $1.key }
                    .map { "\(quoted($0.key)):\(quoted($0.value))" }.joined(separator: ",") + "}"
            ]
            var offset = 0
            for entry in entries {
                let shape = entry.shape.map(String.init).joined(separator: ",")
                let end = offset + entry.data.count
                parts.append(
                    "\(quoted(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\","
                        + "\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}")
                offset = end
            }
            var header = Array(("{" + parts.joined(separator: ",") + "}").utf8)
            while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
            var bytes: [UInt8] = []
            bytes.reserveCapacity(8 + header.count + offset)
            SafeTensors.append(UInt64(header.count), to: &bytes)
            bytes += header
            for entry in entries { bytes += entry.data }
            let range = 8..<8 + header.count
            if let place = Checksum.place(in: bytes, header: range),
                let checksum = Checksum.compute(bytes, header: range)
            {
                bytes.replaceSubrange(place, with: checksum.utf8)
            }
            return bytes
        }

        /// Writes the file in one step: the old one stays until the new one is complete.
        ///
        /// - Throws: `FileError` where it cannot be written.
        public func write(to path: String) throws(FileError) {
            try FileAccess.writeAtomically(encoded(), to: path)
        }

        private func quoted(_ text: String) -> String {
            var result = "\""
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\"": result += "\\\""
                case "\\": result += "\\\\"
                case "\n": result += "\\n"
                case _ where scalar.value < 32:
                    let digits = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                default: result.unicodeScalars.append(scalar)
                }
            }
            return result + "\""
        }
    }

    static func append(_ word: some FixedWidthInteger, to bytes: inout [UInt8]) {
        unsafe withUnsafeBytes(of: word.littleEndian) { unsafe bytes.append(contentsOf: $0) }
    }
}
