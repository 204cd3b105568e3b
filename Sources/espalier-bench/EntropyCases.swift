import ArgumentParser
import EspalierCodec
import EspalierTensors
import EspalierTraining
import Foundation

/// Entropy coding of the matrices in a file: for each u32 rows, u32 columns, little-endian, and its INT8 codes.
enum EntropyCases {
    /// What a mode gave.
    private struct Result: Encodable {
        let mode: String
        let threads: Int
        let weights: Int
        let bytes: Int
        /// Of the order-0 entropy of each matrix, summed.
        let entropyBytes: Double
        /// Of 64 bytes for each tile and one percent above the entropy.
        let boundBytes: Double
        /// Of the fastest pass, in millions a second.
        let encode: Double
        let decode: Double
    }

    static func run(_ path: String, seconds: Double) throws {
        let matrices = try read(path)
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = .sortedKeys
        let threads = Machine.threads
        for mode in IndexMode.allCases {
            for count in Set([1, threads]).sorted() {
                Machine.threads = count
                let result = try measure(matrices, mode, threads: count, seconds: seconds)
                print(String(decoding: try encoder.encode(result), as: UTF8.self))
                fflush(nil)
            }
        }
    }

    private static func read(_ path: String) throws -> [IndexMatrix] {
        let data = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        func number(_ at: Int) -> Int { (0..<4).reduce(0) { $0 | Int(data[at + $1]) << (8 * $1) } }
        var matrices: [IndexMatrix] = []
        var at = 0
        while at + 8 <= data.count {
            let (rows, columns) = (number(at), number(at + 4))
            at += 8
            guard rows * columns <= data.count - at else {
                throw ValidationError("\(path) is cut off")
            }
            matrices.append(
                IndexMatrix(
                    codes: data[at..<at + rows * columns].map { Int8(bitPattern: $0) }, rows: rows,
                    columns: columns))
            at += rows * columns
        }
        return matrices
    }

    private static func measure(
        _ matrices: [IndexMatrix], _ mode: IndexMode, threads: Int, seconds: Double
    ) throws -> Result {
        var (encode, decode) = (Double.infinity, Double.infinity)
        var coded: [[UInt8]] = []
        var tiles = 0
        let clock = ContinuousClock()
        let end = clock.now + .seconds(seconds)
        repeat {
            var results: [CodedIndices] = []
            let encoding = clock.measure { results = IndexCoder.encode(matrices, mode: mode) }
            encode = min(encode, encoding / .seconds(1))
            tiles = results.reduce(0) { $0 + $1.tiles.count }
            coded = results.map(\.bytes)
        } while clock.now < end
        let last = clock.now + .seconds(seconds)
        let buffers = unsafe matrices.map { matrix in
            let buffer = UnsafeMutableBufferPointer<Int8>.allocate(capacity: matrix.codes.count)
            unsafe buffer.initialize(repeating: 1)
            return unsafe buffer
        }
        defer { unsafe buffers.forEach { unsafe $0.deallocate() } }
        repeat {
            let decoding = try clock.measure {
                let readers = try zip(matrices, coded).map {
                    try IndexReader($1[...], rows: $0.rows, columns: $0.columns)
                }
                try unsafe IndexReader.decode(readers, into: buffers)
            }
            decode = min(decode, decoding / .seconds(1))
        } while clock.now < last
        for (index, matrix) in matrices.enumerated() {
            guard unsafe buffers[index].elementsEqual(matrix.codes) else {
                throw ValidationError("\(mode) lost weights")
            }
        }
        let weights = matrices.reduce(0) { $0 + $1.codes.count }
        let entropy = matrices.reduce(0) { $0 + self.entropy($1.codes) } / 8
        return Result(
            mode: "\(mode)", threads: threads, weights: weights,
            bytes: coded.reduce(0) { $0 + $1.count }, entropyBytes: entropy,
            boundBytes: entropy * 1.01 + Double(64 * tiles), encode: Double(weights) / encode / 1e6,
            decode: Double(weights) / decode / 1e6)
    }

    /// Bits.
    private static func entropy(_ codes: [Int8]) -> Double {
        var counts = [Int](repeating: 0, count: 256)
        for code in codes { counts[Int(code) + 128] += 1 }
        return counts.reduce(0) {
            $1 > 0 ? $0 - Double($1) * log2(Double($1) / Double(codes.count)) : $0
        }
    }
}
