import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

/// The random cases of each op. Exhaustive: a new op does not compile without its definition.
private func properties(of op: Op, _ draw: inout Draw) -> [PropertyCase] {
    switch op {
    case .add, .scale, .relu, .dropout: plainProperties(&draw)
    case .mask, .fakeQuantize: compressionProperties(&draw)
    case .linear, .matMul: productProperties(&draw)
    case .conv2D: convolutionProperties(&draw)
    case .maxPool2D, .averagePool2D: poolProperties(&draw)
    case .batchNorm, .layerNorm: normProperties(&draw)
    case .attention: attentionProperties(&draw)
    case .residualNorm: residualNormProperties(&draw)
    case .softmax, .cumulativeSum: scanProperties(&draw)
    case .reshape, .permute: moveProperties(&draw)
    case .crossEntropy: crossEntropyProperties(&draw)
    case .distillation: distillationProperties(&draw)
    case .unary: unaryProperties(&draw)
    case .binary: binaryProperties(&draw)
    case .select, .fill: choiceProperties(&draw)
    case .reduce: reduceProperties(&draw)
    case .slice: sliceProperties(&draw)
    case .concatenate, .expand: joinProperties(&draw)
    case .pad: padProperties(&draw)
    case .triangle: triangleProperties(&draw)
    case .gather, .take, .scatterAdd: indexProperties(&draw)
    case .resample: resampleProperties(&draw)
    }
}

/// Every op at random shapes with extents of 0, 1 and primes: its definition in double precision, and its gradient
/// against difference quotients.
@Suite struct OpPropertyTests {
    private static let rounds = 20

    @Test(arguments: sampleOps.indices) func agreesWithItsDefinition(_ index: Int) {
        let name = opName(sampleOps[index])
        var (cases, empty) = (0, 0)
        for round in 0..<Self.rounds {
            var draw = Draw(name, round, isWide: round % 4 == 3)
            for test in properties(of: sampleOps[index], &draw) {
                cases += 1
                if test.inputs.contains(where: { $0.count == 0 }) { empty += 1 }
                if let difference = test.difference() {
                    Issue.record("\(test.name): \(difference)")
                }
                guard test.isSmall, test.isSmooth else {
                    // The gradient is there, of the right shape.
                    let tape = Tape(mode: .training)
                    let values = test.inputs.map { tape.variable($0) }
                    let result = test.body(values)
                    let gradients = tape.gradients(
                        of: result, upstream: result.tensor, for: values
                    ).values
                    #expect(gradients.map(\.shape) == test.inputs.map(\.shape), "\(test.name)")
                    continue
                }
                let worst = GradientCheck.worstError(of: test.body, at: test.inputs)
                #expect(worst.error < 5e-3, "\(test.name): \(worst.place)")
            }
        }
        #expect(cases >= Self.rounds / 2, "\(name): \(cases) cases")
        #expect(empty > 0, "\(name): nothing empty among \(cases) cases")
    }

    /// What is made of several ops takes batches of nothing too, forward and backward.
    @Test(arguments: [0, 1]) func emptyBatchesPassThrough(batch: Int) {
        func check(
            _ name: String, _ inputs: [Shape], _ result: Shape, _ body: ([Value]) -> Value
        ) {
            let tape = Tape(mode: .training)
            let values = inputs.map { tape.variable(normal($0)) }
            let y = body(values)
            #expect(y.shape == result, "\(name)")
            let gradients = tape.gradients(of: y, upstream: y.tensor, for: values).values
            #expect(gradients.map(\.shape) == inputs, "\(name)")
        }
        check(
            "attention", [[batch, 2, 3, 4], [batch, 2, 5, 4], [batch, 2, 5, 7]], [batch, 2, 3, 7]
        ) {
            $0[0].attention(
                keys: $0[1], values: $0[2],
                keyMask: Tensor(repeating: 1, shape: [batch, 1, 1, 5]), isCausal: true, dropout: 0.1
            ).result
        }
        check("no queries", [[batch, 2, 0, 4], [batch, 2, 5, 4]], [batch, 2, 0, 4]) {
            $0[0].attention(keys: $0[1], values: $0[1]).result
        }
        check("heads", [[batch, 3, 8]], [batch, 3, 8]) { $0[0].splitHeads(4).joinedHeads() }
        check("conv1d", [[batch, 7, 4], [6, 3, 2]], [batch, 5, 6]) {
            $0[0].conv1D(weight: $0[1], bias: nil, stride: 1, padding: 0, dilation: 1, groups: 2)
        }
        check("transposed conv2d", [[batch, 3, 3, 4], [4, 2, 2, 3]], [batch, 4, 4, 3]) {
            $0[0].convTransposed2D(weight: $0[1], bias: nil, Op.Conv2D(), outputPadding: Size2D(0))
        }
        check("group norm", [[batch, 5, 6], [6], [6]], [batch, 5, 6]) {
            $0[0].groupNorm(groups: 3, weight: $0[1], bias: $0[2])
        }
        check("embedding", [[5, 3]], [batch, 0, 3]) {
            $0[0].embedding(IndexTensor([], shape: [batch, 0]))
        }
        check("tile", [[batch, 3]], [2 * batch, 6]) { $0[0].tiled([2, 2]) }
        check("split", [[batch, 5]], [batch, 3]) { $0[0].split([2, 3], axis: 1)[1] }
        check("stack", [[batch, 5], [batch, 5]], [batch, 2, 5]) { .stacked($0, axis: 1) }
        check("flatten", [[batch, 3, 5]], [batch, 15]) { $0[0].flattened() }
        check("squared error", [[batch, 5], [batch, 5]], []) {
            $0[0].squaredError($0[1], .sum)
        }
        check("cosine distance", [[batch, 2, 5], [batch, 2, 5]], []) {
            $0[0].cosineDistance($0[1]).sum()
        }
        check("binary cross-entropy", [[batch, 5]], []) {
            $0[0].binaryCrossEntropy(Tensor(repeating: 0.5, shape: [batch, 5]), .sum)
        }
        check("negative log-likelihood", [[batch, 5]], []) {
            $0[0].logSoftmax().negativeLogLikelihood(
                IndexTensor([Int32](repeating: 2, count: batch)), .sum)
        }
    }
}
