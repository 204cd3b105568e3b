import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Ops that stand for several others, against these.
@Suite struct FusedTests {
    private func normal(_ shape: Shape, _ seed: UInt64 = 1) -> Tensor {
        Fixtures.normal(shape, seed: seed)
    }

    private func results(
        _ inputs: [Tensor], precision: Precision = .float, _ body: ([Value]) -> Value
    ) -> [Tensor] {
        let tape = Tape(mode: .training, precision: precision)
        let values = inputs.map { tape.variable($0) }
        let y = body(values)
        let result = y.tensor
        let upstream = normal(y.shape, 77)
        return [result] + tape.gradients(of: y, upstream: upstream, for: values).values
    }

    private func expectClose(_ a: [Tensor], _ b: [Tensor], _ bound: Float, _ name: String) {
        for (index, (a, b)) in zip(a, b).enumerated() {
            let largest = b.elements.map { abs($0) }.max() ?? 0
            let worst = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
            #expect(worst <= bound * (1 + largest), "\(name), result \(index)")
        }
    }

    @Test(arguments: [
        (1, 1, 1, 1, 5), (2, 7, 13, 3, 5), (1, 128, 128, 2, 32), (2, 50, 131, 3, 7),
        (1, 1, 65, 2, 64),
    ])
    func attention(_ batch: Int, _ queries: Int, _ keys: Int, _ heads: Int, _ depth: Int) {
        let size = heads * depth
        let inputs = [
            normal([batch, queries, size]), normal([batch, keys, size], 2),
            normal([batch, keys, size], 3),
        ]
        // Every query sees the first key, so that the composed form has numbers as well.
        let mask = Tensor(
            (0..<batch * keys).map { $0 % keys == 0 || $0 % 3 != 0 ? 1 : 0 }, shape: [batch, keys])
        for isCausal in [false, true] {
            for keyMask in [nil, mask] {
                let composed = results(inputs) {
                    $0[0].splitHeads(heads).attention(
                        keys: $0[1].splitHeads(heads), values: $0[2].splitHeads(heads),
                        keyMask: keyMask?.reshaped(to: [batch, 1, 1, keys]), isCausal: isCausal
                    ).result.joinedHeads()
                }
                for (precision, bound) in [(Precision.float, Float(2e-5)), (.bf16, 0.03)] {
                    let fused = results(inputs, precision: precision) {
                        $0[0].attention(
                            keys: $0[1], values: $0[2], heads: heads, keyMask: keyMask,
                            isCausal: isCausal)
                    }
                    expectClose(fused, composed, bound, "\(isCausal) \(precision)")
                }
            }
        }
    }

    /// Heads in blocks of 64 tokens against heads in rows: the sums of a query's probabilities are added in another order.
    @Test(arguments: [(1, 64, 64, 1, 5), (3, 128, 64, 2, 32), (2, 64, 192, 3, 7)])
    func attentionInBlocks(_ batch: Int, _ queries: Int, _ keys: Int, _ heads: Int, _ depth: Int) {
        let size = heads * depth
        let q = normal([batch, queries, size])
        let (k, v) = (normal([batch, keys, size], 2), normal([batch, keys, size], 3))
        let dy = normal([batch, queries, size], 4)
        let mask = Tensor((0..<batch * keys).map { $0 % 3 != 0 ? 1 : 0 }, shape: [batch, keys])
        func run(_ layout: Layout) -> [Tensor] {
            func lay(_ x: Tensor) -> Tensor { Kernels.converted(x, to: layout) }
            let rule = Kernels.Attention(
                queries: q.shape, keys: k.shape, values: v.shape, heads: heads, isCausal: true,
                scale: 0.3, roundsFactors: false, layout: layout)
            let (y, sums) = Kernels.attention(rule, lay(q), lay(k), lay(v), keyMask: mask)
            let gradients = Kernels.attentionGradients(
                rule, lay(q), lay(k), lay(v), keyMask: mask, result: y, logSums: sums,
                upstream: lay(dy), needed: [true, true, true])
            return ([y] + gradients.compactMap(\.self)).map {
                Kernels.converted($0, to: .rowMajor)
            }
        }
        let (rows, blocks) = (run(.rowMajor), run(.tokenBlocked64))
        #expect(rows.count == 4)
        expectClose(rows, blocks, 2e-6, "\(queries) and \(keys) in blocks")
    }

    @Test func aQueryThatSeesNothingGivesZero() {
        let mask = Tensor([0, 0, 0, 1, 0, 1], shape: [2, 3])
        let found = results([normal([2, 4, 6]), normal([2, 3, 6], 2), normal([2, 3, 6], 3)]) {
            $0[0].attention(keys: $0[1], values: $0[2], heads: 2, keyMask: mask)
        }
        for tensor in found {
            let half = tensor.count / 2
            #expect(tensor.elements.prefix(half).allSatisfy { $0 == 0 })
            #expect(tensor.elements.suffix(half).contains { $0 != 0 })
            #expect(tensor.firstNonFinite == nil)
        }
    }

    @Test func notANumberStays() {
        var numbers = normal([1, 3, 4]).elements
        numbers[5] = .nan
        let q = Tensor(numbers, shape: [1, 3, 4])
        let y = Tape(mode: .evaluation)
        let result = y.input(q).attention(
            keys: y.input(normal([1, 20, 4], 2)), values: y.input(normal([1, 20, 4], 3)), heads: 1
        ).tensor.elements
        #expect(result[4..<8].allSatisfy { $0.isNaN })
        let others = result[..<4] + result[8...]
        #expect(others.allSatisfy { $0.isFinite })
    }

    @Test func residualNorm() {
        for shape in [[1, 1], [5, 7], [3, 11, 37], [130, 384]] as [Shape] {
            let size = shape[shape.rank - 1]
            let inputs = [normal(shape), normal(shape, 2), normal([size], 3), normal([size], 4)]
            let fused = results(inputs) { $0[0].residualNorm($0[1], weight: $0[2], bias: $0[3]) }
            let composed = results(inputs) { ($0[0] + $0[1]).layerNorm(weight: $0[2], bias: $0[3]) }
            expectClose(fused, composed, 1e-5, "\(shape)")
        }
    }

    /// A step over many parameters is that of each alone.
    @Test func optimizersTakeAllParametersAtOnce() {
        final class Layers: Sendable {
            let all: [Parameter]
            init(_ all: [Parameter]) { self.all = all }
        }
        struct Model: Module {
            let layers: Layers
            func visit(_ visitor: inout some ModuleVisitor) {
                for (index, parameter) in layers.all.enumerated() {
                    visitor.visit("p\(index)", parameter)
                }
            }
        }
        let shapes: [Shape] = [[1], [17_001], [3, 50], [0], [40_000]]
        func parameters() -> [Parameter] {
            shapes.enumerated().map { Parameter(normal($1, UInt64($0 + 1))) }
        }
        func run(_ optimizer: any Optimizer, _ parameters: [Parameter]) {
            var optimizer = optimizer
            let set = ParameterSet(Model(layers: Layers(parameters)))
            for step in 0..<3 {
                var gradients = Gradients()
                for parameter in parameters {
                    gradients[parameter] = normal(parameter.shape, UInt64(50 + step))
                }
                optimizer.update(set, with: gradients, rate: 0.1)
            }
        }
        let optimizers: [any Optimizer] = [
            SGD(momentum: 0.9), AdamW(), Adam(keepsLargest: true), AdaGrad(),
            RMSProp(momentum: 0.5, isCentred: true),
        ]
        for optimizer in optimizers {
            let (together, alone) = (parameters(), parameters())
            for list in [together, alone] {
                list[1].setMask(Mask(shape: [17_001]) { $0 % 3 != 0 })
            }
            run(optimizer, together)
            for parameter in alone { run(optimizer, [parameter]) }
            for (a, b) in zip(together, alone) { #expect(a.value.isIdentical(to: b.value)) }
            let masked = together[1].value.elements
            #expect(masked.indices.allSatisfy { $0 % 3 != 0 || masked[$0].bitPattern == 0 })
        }
    }
}
