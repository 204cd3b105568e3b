public import EspalierRuntime
import EspalierTensors

/// How long a model takes for a batch: medians of calls, in milliseconds.
public struct Latency: Sendable, Codable, Equatable {
    /// For one example.
    public var batch1: Double
    /// For 64 examples at once.
    public var batch64: Double

    /// Calls that a median is taken of, at least.
    public static let calls = 200

    /// Measures models side by side: their calls take turns, so that what disturbs one disturbs all.
    public static func measure(_ models: [Model]) -> [Latency] {
        let one = measure(models, batch: 1)
        let many = measure(models, batch: 64)
        return zip(one, many).map { Latency(batch1: $0, batch64: $1) }
    }

    /// The median of each model for one batch size.
    public static func measure(_ models: [Model], batch: Int, calls: Int = calls) -> [Double] {
        let clock = ContinuousClock()
        let inputs = models.map {
            RandomStream(seed: 1).uniform(batch * $0.inputCount)
        }
        var results = models.map { [Float](repeating: 0, count: batch * $0.outputCount) }
        var times = models.map { _ in [Double]() }
        // Some calls before the first that counts: plans are made, caches filled.
        for call in -20..<calls {
            for index in models.indices {
                let start = clock.now
                models[index].run(inputs[index], into: &results[index])
                let elapsed = (clock.now - start).components
                let seconds = Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
                if call >= 0 { times[index].append(1000 * seconds) }
            }
        }
        return times.map { $0.sorted()[$0.count / 2] }
    }
}
