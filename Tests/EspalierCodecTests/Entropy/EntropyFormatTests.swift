import EspalierCodec
import EspalierTesting
import Foundation
import Testing

/// Bytes of coded weights that must stay as they are.
@Suite struct EntropyFormatTests {
    private static let rows = 9
    private static let columns = 16

    private func codes(pruned: Bool) -> [Int8] {
        (0..<Self.rows * Self.columns).map { i in
            if pruned { return (i * i * 3 + i * 11) % 23 < 5 ? Int8(i * 37 % 29 - 14) : 0 }
            let x = (i * i * 7 + i * 13 + i / 5) % 61 - 30
            return Int8(x * x * x / 900)
        }
    }

    @Test("Version 1.0: a dense and a pruned matrix in all modes are the frozen bytes")
    func frozenBytes() throws {
        let path = Fixtures.packageRoot + "/Tests/EspalierCodecTests/entropy-1.0.hex"
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 6)
        for (index, line) in lines.enumerated() {
            let codes = codes(pruned: index >= 3)
            let mode = IndexMode.allCases[index % 3]
            let frozen = line.utf8.chunked.map {
                UInt8(String(decoding: $0, as: UTF8.self), radix: 16)!
            }
            let coded = IndexCoder.encode(codes, rows: Self.rows, columns: Self.columns, mode: mode)
            #expect(coded.bytes == frozen, "\(mode)")
            let back = try IndexCoder.decode(frozen[...], rows: Self.rows, columns: Self.columns)
            #expect(back == codes, "\(mode)")
        }
    }
}

extension Substring.UTF8View {
    /// Pairs of digits.
    fileprivate var chunked: [[UInt8]] {
        let digits = Array(self)
        return stride(from: 0, to: digits.count, by: 2).map { Array(digits[$0..<$0 + 2]) }
    }
}
