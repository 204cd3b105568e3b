import ArgumentParser
import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTraining
import Foundation

/// A training step that runs when it is told to: `scripts/bench-training` lets it take turns with PyTorch's.
///
/// Prints a line of JSON about the step when it is ready; then reads a number of steps a line from standard input, and
/// answers with the seconds and the loss of each, the blocks of memory asked of the system, and a checksum of the weights.
struct TrainingTurns {
    private let network: TrainingNetwork
    private let way: Way
    private let rate: Float
    private var optimizer = AdamW()

    /// How a step is taken.
    struct Way: ParsableArguments {
        @Option(
            help: "With --turns: what the factors of products are rounded to: float or bf16.",
            transform: {
                guard let precision = Precision(rawValue: $0) else {
                    throw ValidationError("float or bf16, not '\($0)'")
                }
                return precision
            })
        var precision: Precision = .float

        @Flag(help: "With --turns: weights under locked masks stay dense.")
        var dense = false

        @Flag(help: "With --turns: values inside of layers are computed again for the gradient.")
        var recompute = false

        @Option(help: "With --turns: parts of the batch whose gradients are added up.")
        var microBatches = 1
    }

    /// - Parameter state: A safetensors file with weights, masks and a batch, as the script writes it.
    init(_ name: String, state: String, way: Way) throws {
        let file = try SafeTensors(contentsOf: state)
        network = try TrainingNetwork(name, file, keepsDense: way.dense)
        guard 1...network.examples ~= way.microBatches else {
            throw BenchError("\(way.microBatches) parts of \(network.examples) examples")
        }
        self.way = way
        guard let rate = file.metadata["rate"].flatMap(Float.init) else {
            throw BenchError("\(state): no learning rate")
        }
        self.rate = rate
    }

    private struct Start: Encodable {
        let version = Version.current
        let threads = Machine.threads
        let isa = ISA.current.rawValue
        let blasCore = BLAS.core
        let flops: Int
        let liveFlops: Int
        let parameters: Int
    }

    private struct Turn: Encodable {
        var seconds: [Double] = []
        var losses: [Float] = []
        var allocations = 0
        var checksum: UInt32 = 2_166_136_261
    }

    mutating func run() throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        func answer(_ value: some Encodable) throws {
            print(String(decoding: try encoder.encode(value), as: UTF8.self))
            fflush(nil)
        }
        let work = recorded(nil).tape.work
        try answer(
            Start(
                flops: work.dense, liveFlops: work.live,
                parameters: network.parameters.entries.reduce(0) {
                    $0 + $1.parameter.shape.elementCount
                }))
        let clock = ContinuousClock()
        while let line = readLine(), let count = Int(line) {
            var turn = Turn()
            let allocations = BufferPool.shared.statistics.systemAllocations
            for _ in 0..<count {
                let start = clock.now
                turn.losses.append(step())
                let elapsed = (clock.now - start).components
                turn.seconds.append(Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
            }
            turn.allocations = BufferPool.shared.statistics.systemAllocations - allocations
            for entry in network.parameters.entries {
                let elements = entry.parameter.held.span
                // FNV-1a, a number at a time.
                for i in elements.indices {
                    turn.checksum = (turn.checksum ^ elements[i].bitPattern) &* 16_777_619
                }
            }
            try answer(turn)
        }
    }

    private func recorded(_ rows: Range<Int>?) -> (tape: Tape, loss: Value) {
        let tape = Tape(
            mode: .training, precision: way.precision, recomputes: way.recompute)
        return (tape, network.loss(tape, rows))
    }

    private mutating func step() -> Float {
        var (gradients, sum) = (Gradients(), Float(0))
        for part in 0..<way.microBatches {
            let (count, parts) = (network.examples, way.microBatches)
            let rows = part * count / parts..<(part + 1) * count / parts
            let (tape, loss) = recorded(parts == 1 ? nil : rows)
            let share = Float(rows.count) / Float(count)
            sum += share * loss.tensor.scalar
            RunningMoments.fold(tape.batchStatistics)
            tape.addGradients(of: loss, times: share, to: &gradients)
        }
        optimizer.update(network.parameters, with: gradients, rate: rate)
        return sum
    }
}

/// A benchmark that cannot be run as asked.
struct BenchError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
