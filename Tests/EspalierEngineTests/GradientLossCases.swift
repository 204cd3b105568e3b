import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting
import Testing

private let reductions: [Reduction] = [.mean, .sum, .none]

/// Losses that are made of several ops.
private let losses: [GradientCase] = reductions.flatMap { reduction -> [GradientCase] in
    // Targets half a step away: no difference is 0, none lies at a bound.
    let (x, y) = (distinct([3, 7]), Tensor(repeating: 0.025, shape: [3, 7]))
    let probabilities = Tensor((0..<21).map { Float($0) / 20 }, shape: [3, 7])
    let classes = IndexTensor([2, 6, 4])
    let labels = Tensor([1, -1, -1], shape: [3])
    return [
        GradientCase(name: "squared error \(reduction)", inputs: [x, normal([3, 7], 2)]) {
            $0[0].squaredError($0[1], reduction)
        },
        GradientCase(name: "absolute error \(reduction)", inputs: [x, y]) {
            $0[0].absoluteError($0[1], reduction)
        },
        GradientCase(name: "Huber \(reduction)", inputs: [x, y]) {
            $0[0].huber($0[1], delta: 0.5, reduction)
        },
        GradientCase(name: "smooth absolute error \(reduction)", inputs: [x, y]) {
            $0[0].smoothAbsoluteError($0[1], beta: 0.5, reduction)
        },
        GradientCase(name: "binary cross-entropy \(reduction)", inputs: [normal([3, 7])]) {
            $0[0].binaryCrossEntropy(
                probabilities, weight: Tensor([1, 0, 2], shape: [3, 1]),
                positiveWeight: Tensor([1, 2, 3, 1, 1, 0.5, 1], shape: [7]), reduction)
        },
        GradientCase(name: "negative log-likelihood \(reduction)", inputs: [normal([3, 7])]) {
            $0[0].logSoftmax().negativeLogLikelihood(
                classes, classWeights: Tensor([1, 1, 2, 1, 1, 1, 3], shape: [7]),
                ignoredClass: 4, reduction)
        },
        GradientCase(
            name: "cosine embedding \(reduction)", inputs: [normal([3, 7]), normal([3, 7], 2)]
        ) { $0[0].cosineEmbedding($0[1], labels: labels, margin: -0.9, reduction) },
        GradientCase(
            name: "cosine distance", inputs: [normal([2, 3, 7]), normal([2, 3, 7], 2)]
        ) { $0[0].cosineDistance($0[1]) },
    ]
}

@Suite struct LossGradientTests {
    @Test(arguments: losses) func agreesWithDifferences(_ test: GradientCase) {
        let worst = GradientCheck.worstError(of: test.body, at: test.inputs, step: test.step)
        #expect(worst.error < 4e-3, "\(worst.place)")
    }
}
