import ArgumentParser
import EspalierEngine
import EspalierTensors
import EspalierTraining
import Foundation

/// Benchmarks with JSON output: every figure that the project claims comes from here or from scripts/.
@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "espalier-bench",
        abstract: "Measure products, kernels and training steps against baselines in the same run.")

    @Flag(help: "Print one JSON object a case.")
    var json = false

    @Option(help: "Only cases whose name contains this.")
    var only: String?

    @Option(help: "Seconds for each side of a case.")
    var seconds: Double = 0.5

    @Option(help: "Threads to use. Default: all cores.")
    var threads: Int?

    @Flag(help: "Measure a new cost table of the INT8 kernels in use and print it, nothing else.")
    var tune = false

    @Option(
        help:
            "Run training steps of a network when told to on standard input; see scripts/bench-training."
    )
    var turns: String?

    @Option(help: "With --turns: a file with weights and a batch.")
    var state: String?

    @Option(
        parsing: .upToNextOption,
        help: "Encode and decode the tensors of safetensors files as NNC; see scripts/bench-codecs."
    )
    var nnc: [String] = []

    @Option(
        help:
            "Code the weights of this file in every mode, print sizes and rates; see scripts/bench-entropy."
    )
    var codes: String?

    @OptionGroup var way: TrainingTurns.Way

    func run() throws {
        if let threads { Machine.threads = threads }
        if let turns {
            guard let state else { throw ValidationError("--turns needs --state") }
            var training = try TrainingTurns(turns, state: state, way: way)
            return try training.run()
        }
        if !nnc.isEmpty {
            for file in nnc { print(try NNCBench(file, seconds: seconds).line) }
            return
        }
        if let codes { return try EntropyCases.run(codes, seconds: seconds) }
        if tune { return print(try CostCases.tuned()) }
        let meter = Meter(seconds: seconds)
        let cases =
            ProductCases.all + HalfProductCases.all + FloatCases.all + StepCases.all + Int8Cases.all
            + ConvolutionCases.all + ConvolutionTrainingCases.all + FusedCases.all + SparseCases.all
            + CostCases.all + KernelCases.all
        if !json {
            print("\(Machine.report)\n")
            print(Measurement.header)
        }
        for benchmark in cases where only.map({ benchmark.name.contains($0) }) ?? true {
            let measurement = try benchmark.measure(meter)
            print(try json ? measurement.json() : measurement.line)
            fflush(nil)
        }
    }
}

/// One thing that is measured.
struct Benchmark {
    let name: String
    let measure: (Meter) throws -> Measurement
}

/// What a case gave.
struct Measurement: Encodable {
    var name: String
    var shape: String
    var threads: Int
    /// Of one call, in seconds.
    var median: Double
    /// Between the 10th and the 90th percentile, over the median.
    var spread: Double
    /// In `unit`.
    var rate: Double
    var unit: String
    /// What it is compared with.
    var baseline: String
    var baselineMedian: Double
    /// The baseline's median over ours: above 1 is faster.
    var ratio: Double
    /// Of the shortest calls: what both reach when the machine is left alone.
    var best: Double
    var baselineBest: Double
    var bestRatio: Double
    var isa = ISA.current.rawValue
    var blasCore = BLAS.core

    init(
        _ name: String, shape: String, threads: Int, rate: (Double) -> Double, unit: String,
        baseline: String, _ times: (ours: Meter.Sample, baseline: Meter.Sample)
    ) {
        (self.name, self.shape, self.threads) = (name, shape, threads)
        (self.unit, self.baseline) = (unit, baseline)
        median = times.ours.median
        spread = times.ours.spread
        self.rate = rate(times.ours.median)
        baselineMedian = times.baseline.median
        ratio = times.baseline.median / times.ours.median
        (best, baselineBest) = (times.ours.best, times.baseline.best)
        bestRatio = times.baseline.best / times.ours.best
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    private static func columns(_ cells: [String]) -> String {
        zip(cells, [26, 22, 8, 12, 8, 18, 8, 8]).map { cell, width in
            cell + String(repeating: " ", count: max(width - cell.count, 1))
        }.joined()
    }

    static let header =
        columns(["case", "shape", "threads", "median", "spread", "rate", "ratio", "best"])
        + "against"

    var line: String {
        Measurement.columns([
            name, shape, "\(threads)", String(format: "%.2f us", median * 1e6),
            String(format: "%.0f %%", 100 * spread), String(format: "%.1f ", rate) + unit,
            String(format: "%.2f", ratio), String(format: "%.2f", bestRatio),
        ]) + baseline
    }
}

/// Measures two sides by turns, so that a slow spell of the machine meets both.
struct Meter {
    let seconds: Double
    private static let rounds = 7

    init(seconds: Double) { self.seconds = seconds }

    /// Times of single calls, in seconds.
    struct Sample {
        var times: [Double] = []
        var median: Double { percentile(0.5) }
        var best: Double { times.min() ?? 0 }
        var spread: Double { (percentile(0.9) - percentile(0.1)) / max(median, 1e-12) }

        private func percentile(_ share: Double) -> Double {
            let sorted = times.sorted()
            guard !sorted.isEmpty else { return 0 }
            return sorted[Int((share * Double(sorted.count - 1)).rounded())]
        }
    }

    /// The times of both sides.
    ///
    /// - Parameter prepare: Called before each turn of a side; 0 is ours, 1 the baseline.
    func compare(
        prepare: (Int) -> Void = { _ in }, _ ours: () -> Void, _ baseline: () -> Void
    ) -> (ours: Sample, baseline: Sample) {
        var samples = [Sample(), Sample()]
        for round in 0...Meter.rounds {
            for index in 0...1 {
                prepare(index)
                let share = seconds / Double(Meter.rounds)
                let times = index == 0 ? time(ours, for: share) : time(baseline, for: share)
                // The first round warms up.
                if round > 0 { samples[index].times += times }
            }
        }
        return (samples[0], samples[1])
    }

    // Short calls are timed in batches of at least 20 microseconds.
    private func time(_ body: () -> Void, for seconds: Double) -> [Double] {
        let clock = ContinuousClock()
        func measure(_ count: Int) -> Double {
            let start = clock.now
            for _ in 0..<count { body() }
            let elapsed = (clock.now - start).components
            return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
        }
        let count = max(Int(20e-6 / max(measure(1), 1e-9)), 1)
        var (times, total) = ([Double](), 0.0)
        repeat {
            let elapsed = measure(count)
            times.append(elapsed / Double(count))
            total += elapsed
        } while total < seconds
        return times
    }
}
