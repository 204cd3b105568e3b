import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTraining

/// What stands between the linear layers of a transformer's step: forward and gradient of each op against the same from
/// smaller ops, or against one thread.
enum FusedCases {
    static var all: [Benchmark] {
        [(16, 128, 12, 32), (16, 128, 6, 64), (4, 512, 6, 64)].map { batch, length, heads, depth in
            Benchmark(name: "fused/attention") {
                attention($0, batch: batch, length: length, heads: heads, depth: depth)
            }
        } + [
            Benchmark(name: "fused/residual norm", measure: residualNorm),
            Benchmark(name: "fused/gelu", measure: gelu),
            Benchmark(name: "fused/cross-entropy", measure: crossEntropy),
            Benchmark(name: "fused/embedding", measure: embedding),
            Benchmark(name: "fused/dropout", measure: dropout),
            Benchmark(name: "fused/adamw", measure: adamW),
        ]
    }

    private static func normal(_ shape: Shape, _ seed: UInt64) -> Tensor {
        Tensor(RandomStream(seed: seed).normal(shape.elementCount), shape: shape)
    }

    /// Forward and gradients of a function of values.
    private static func both(_ inputs: [Tensor], _ upstream: Tensor, _ body: ([Value]) -> Value) {
        let tape = Tape(mode: .training)
        let values = inputs.map { tape.variable($0) }
        let y = body(values)
        _ = tape.gradients(of: y, upstream: upstream, for: values)
    }

    private static func attention(
        _ meter: Meter, batch: Int, length: Int, heads: Int, depth: Int
    ) -> Measurement {
        let shape: Shape = [batch, length, heads * depth]
        let inputs = [normal(shape, 1), normal(shape, 2), normal(shape, 3)]
        let upstream = normal(shape, 4)
        let times = meter.compare(
            {
                both(inputs, upstream) { $0[0].attention(keys: $0[1], values: $0[2], heads: heads) }
            },
            {
                both(inputs, upstream) {
                    $0[0].splitHeads(heads).attention(
                        keys: $0[1].splitHeads(heads), values: $0[2].splitHeads(heads)
                    ).result.joinedHeads()
                }
            })
        // Two products forward; five with the scores once more.
        let work = 14 * Double(batch * heads * length * length * depth)
        return Measurement(
            "fused/attention", shape: "\(batch)x\(length), \(heads) of \(depth)",
            threads: Machine.threads, rate: { work / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: "products and softmax", times)
    }

    private static func elements(
        _ meter: Meter, _ name: String, _ inputs: [Tensor], baseline: String?,
        _ ours: @escaping ([Value]) -> Value, _ theirs: (([Value]) -> Value)? = nil
    ) -> Measurement {
        let upstream = normal(inputs[0].shape, 9)
        let threads = Machine.threads
        let times = meter.compare(
            prepare: { side in Machine.threads = side == 0 || theirs != nil ? threads : 1 },
            { both(inputs, upstream, ours) }, { both(inputs, upstream, theirs ?? ours) })
        Machine.threads = threads
        return Measurement(
            "fused/" + name, shape: "\(inputs[0].shape)", threads: threads,
            rate: { Double(inputs[0].count) / $0 * 1e-9 }, unit: "Gelement/s",
            baseline: baseline ?? "one thread", times)
    }

    private static func residualNorm(_ meter: Meter) -> Measurement {
        let shape: Shape = [2_048, 384]
        return elements(
            meter, "residual norm",
            [normal(shape, 1), normal(shape, 2), normal([384], 3), normal([384], 4)],
            baseline: "addition, layer norm",
            { $0[0].residualNorm($0[1], weight: $0[2], bias: $0[3]) },
            { ($0[0] + $0[1]).layerNorm(weight: $0[2], bias: $0[3]) })
    }

    private static func gelu(_ meter: Meter) -> Measurement {
        elements(meter, "gelu", [normal([2_048, 1_536], 1)], baseline: nil, { $0[0].gelu() })
    }

    private static func dropout(_ meter: Meter) -> Measurement {
        elements(
            meter, "dropout", [normal([2_048, 384], 1)], baseline: nil, { $0[0].dropout(0.1) })
    }

    private static func crossEntropy(_ meter: Meter) -> Measurement {
        let logits = normal([4_096, 8_192], 1)
        let labels = IndexTensor((0..<4_096).map { Int32($0 * 7 % 8_192) })
        let times = meter.compare(
            { both([logits], Tensor(0.5)) { $0[0].crossEntropy(labels) } },
            {
                both([logits], Tensor(0.5)) { $0[0].logSoftmax().negativeLogLikelihood(labels) }
            })
        return Measurement(
            "fused/cross-entropy", shape: "4096x8192", threads: Machine.threads,
            rate: { Double(logits.count) / $0 * 1e-9 }, unit: "Gelement/s",
            baseline: "log-softmax, likelihood", times)
    }

    private static func embedding(_ meter: Meter) -> Measurement {
        let table = normal([30_522, 384], 1)
        let ids = IndexTensor(
            RandomStream(seed: 2).integers(2_048, below: 30_522).map(Int32.init))
        let upstream = normal([2_048, 384], 3)
        let threads = Machine.threads
        func run() { both([table], upstream) { $0[0].embedding(ids) } }
        let times = meter.compare(
            prepare: { Machine.threads = $0 == 0 ? threads : 1 }, run, run)
        Machine.threads = threads
        return Measurement(
            "fused/embedding", shape: "2048 of 30522x384", threads: threads,
            rate: { Double(table.count) * 4 / $0 * 1e-9 }, unit: "GB/s of zeros",
            baseline: "one thread", times)
    }

    /// The parameters of a MiniLM: an embedding and six layers.
    private static func adamW(_ meter: Meter) -> Measurement {
        struct Model: Module {
            let parameters: [Parameter]
            func visit(_ visitor: inout some ModuleVisitor) {
                for (index, parameter) in parameters.enumerated() {
                    visitor.visit("p\(index)", parameter)
                }
            }
        }
        let layer: [Shape] = [
            [384, 384], [384, 384], [384, 384], [384, 384], [1_536, 384], [384, 1_536], [384],
            [384], [384], [384], [1_536], [384], [384], [384], [384], [384],
        ]
        let shapes: [Shape] = [[30_522, 384]] + (0..<6).flatMap { _ in layer }
        let model = Model(parameters: shapes.map { Parameter(Tensor(repeating: 1, shape: $0)) })
        let set = ParameterSet(model)
        var gradients = Gradients()
        for parameter in model.parameters {
            gradients[parameter] = Tensor(repeating: 0.5, shape: parameter.shape)
        }
        let count = shapes.reduce(0) { $0 + $1.elementCount }
        var optimizer = AdamW()
        let threads = Machine.threads
        func step() { optimizer.update(set, with: gradients, rate: 1e-6) }
        let times = meter.compare(
            prepare: { Machine.threads = $0 == 0 ? threads : 1 }, step, step)
        Machine.threads = threads
        return Measurement(
            "fused/adamw", shape: "\(count) weights", threads: threads,
            rate: { Double(count) * 28 / $0 * 1e-9 }, unit: "GB/s", baseline: "one thread", times)
    }
}
