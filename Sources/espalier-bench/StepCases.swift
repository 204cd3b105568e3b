import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTraining

/// Training steps of the quickstart's network: forward, gradients, AdamW.
enum StepCases {
    static var all: [Benchmark] {
        [Benchmark(name: "step/quickstart") { try quickstart($0) }]
    }

    private static func quickstart(_ meter: Meter) throws -> Measurement {
        let batch = 64
        let network = try Network(
            .convnet(channels: [32, 64], hidden: 128, dropout: 0), input: [8, 8, 1], classes: 10,
            random: RandomStream(seed: 1))
        let parameters = ParameterSet(network)
        let images = Tensor(
            RandomStream(seed: 2).uniform(batch * 64), shape: [batch, 8, 8, 1])
        let labels = IndexTensor((0..<batch).map { Int32($0 % 10) })
        var optimizer = AdamW()
        func step() {
            let tape = Tape(mode: .training)
            let loss = network(tape.input(images)).crossEntropy(labels)
            RunningMoments.fold(tape.batchStatistics)
            optimizer.update(parameters, with: tape.gradients(of: loss), rate: 1e-4)
        }
        let threads = Machine.threads
        let times = meter.compare(
            prepare: { side in Machine.threads = side == 0 ? threads : 1 }, step, step)
        Machine.threads = threads
        return Measurement(
            "step/quickstart", shape: "batch 64 of 8x8x1", threads: threads,
            rate: { Double(batch) / $0 }, unit: "examples/s",
            baseline: "the same step on one thread", times)
    }
}
