package import EspalierTensors
import Foundation

/// Things that many tests need.
package enum Fixtures {
    /// The package's folder.
    package static let packageRoot: String = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

    /// Normal random numbers, the same for the same seed.
    package static func normal(_ shape: Shape, seed: UInt64) -> Tensor {
        Tensor(RandomStream(seed: seed).normal(shape.elementCount), shape: shape)
    }

    /// A new empty folder, removed after `body`.
    package static func withFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
        let folder = NSTemporaryDirectory() + "espalier-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try body(folder)
    }

    /// Writes bytes in the IDX format.
    package static func writeIDX(_ bytes: [UInt8], _ extents: [Int], to path: String) throws {
        var data = Data([0, 0, 8, UInt8(extents.count)])
        for extent in extents {
            for shift in [24, 16, 8, 0] { data.append(UInt8(truncatingIfNeeded: extent >> shift)) }
        }
        try (data + Data(bytes)).write(to: URL(fileURLWithPath: path))
    }
}
