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
}
