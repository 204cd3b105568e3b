import EspalierInterchange
import EspalierTensors
import Foundation

/// How fast the tensors of a file become an NNC stream and come back: the best of some runs.
struct NNCBench {
    /// A JSON object: weights, bytes, and millions of weights a second.
    let line: String

    init(_ path: String, seconds: Double) throws {
        let file = try SafeTensors(contentsOf: path)
        var writer = NNCWriter()
        var count = 0
        for (name, entry) in file.entries.sorted(by: { $0.key < $1.key }) {
            if entry.type == .f32 {
                let tensor = try file.tensor(name)
                count += tensor.count
                try writer.add(name, tensor)
            } else {
                let integers = try file.integers(name)
                count += integers.count
                try writer.add(name, integers: integers)
            }
        }
        var bytes: [UInt8] = []
        let encoding = try NNCBench.best(seconds) { bytes = try writer.encoded() }
        // Numbers, as other programs give them back.
        let decoding = try NNCBench.best(seconds) {
            for tensor in try NNCReader(bytes).tensors {
                _ = tensor.isInteger ? tensor.codes.count : tensor.floats.count
            }
        }
        line = String(
            format: "{\"weights\":%d,\"bytes\":%d,\"encode\":%.3f,\"decode\":%.3f,\"threads\":%d}",
            count, bytes.count, Double(count) / encoding / 1e6, Double(count) / decoding / 1e6,
            ThreadPool.shared.width)
    }

    private static func best(_ seconds: Double, _ body: () throws -> Void) rethrows -> Double {
        var best = Double.infinity
        let start = DispatchTime.now().uptimeNanoseconds
        repeat {
            let before = DispatchTime.now().uptimeNanoseconds
            try body()
            best = min(best, Double(DispatchTime.now().uptimeNanoseconds - before) / 1e9)
        } while Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9 < seconds
        return best
    }
}
