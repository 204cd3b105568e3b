import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// One op with operands to differentiate it at.
struct GradientCase: Sendable, CustomTestStringConvertible {
    let name: String
    let inputs: [Tensor]
    var step: Float = 1e-2
    var mode: Mode = .training
    let body: @Sendable ([Value]) -> Value

    var testDescription: String { name }
}

func normal(_ shape: Shape, _ seed: UInt64 = 1) -> Tensor {
    Fixtures.normal(shape, seed: seed)
}

/// Distinct numbers at least 0.05 apart and away from 0, in random order: no ties and no kinks
/// within a step.
func distinct(_ shape: Shape) -> Tensor {
    let count = shape.elementCount
    let order = RandomStream(seed: 8).permutation(count)
    return Tensor(order.map { (Float($0) - Float(count / 2) + 0.5) * 0.1 }, shape: shape)
}

private let labels = IndexTensor([2, 0, 3, 1, 2])
private let soft: Tensor = {
    let rows = RandomStream(seed: 3).uniform(20)
    return Tensor(
        rows.indices.map { rows[$0] / rows[$0 / 4 * 4..<$0 / 4 * 4 + 4].reduce(0, +) },
        shape: [5, 4])
}()
private let weights = Tensor([0.5, 2, 1, 0.25], shape: [4])

private func windowed(_ kernel: Int, _ stride: Int, _ padding: Int, roundsUp: Bool = false)
    -> Window2D
{
    Window2D(
        kernel: Size2D(kernel), stride: Size2D(stride), padding: Padding2D(Size2D(padding)),
        roundsUp: roundsUp)
}

private func convolution(
    _ name: String, x: Shape, weight: Shape, bias: Bool = false, _ op: Op.Conv2D
) -> GradientCase {
    let inputs = [normal(x), normal(weight, 2)] + (bias ? [normal([weight[0]], 3)] : [])
    return GradientCase(name: "conv2d \(name)", inputs: inputs) {
        $0[0].conv2D(weight: $0[1], bias: bias ? $0[2] : nil, op)
    }
}

private func crossEntropy(_ name: String, _ op: Op.CrossEntropy) -> GradientCase {
    GradientCase(name: "cross-entropy \(name)", inputs: [normal([5, 4])]) { $0[0].crossEntropy(op) }
}

private final class Owner: Sendable {}

private func batchNorm(_ name: String, mode: Mode, affine: Bool, x: Shape) -> GradientCase {
    let channels = x[x.rank - 1]
    let moments = Op.BatchNorm.Moments(
        mean: normal([channels], 4), variance: Tensor(repeating: 1.7, shape: [channels]))
    let owner = Owner()
    return GradientCase(
        name: "batch norm \(name)",
        inputs: [normal(x)] + (affine ? [normal([channels], 2), normal([channels], 3)] : []),
        mode: mode
    ) {
        $0[0].batchNorm(
            weight: affine ? $0[1] : nil, bias: affine ? $0[2] : nil, running: moments,
            epsilon: 1e-3, owner: owner)
    }
}

/// The checks of each op. Exhaustive: a new op does not compile without its own.
private func checks(of op: Op) -> [GradientCase] {
    switch op {
    case .add:
        return
            ([
                ([3, 4], [3, 4]), ([3, 4], [4]), ([4], [3, 4]), ([3, 1, 2], [5, 1]), ([], [2, 3]),
            ] as [(Shape, Shape)])
            .map { a, b in
                GradientCase(name: "add \(a) + \(b)", inputs: [normal(a), normal(b, 2)]) {
                    $0[0] + $0[1]
                }
            } + [GradientCase(name: "add x + x", inputs: [normal([3, 2])]) { $0[0] + $0[0] }]
    case .scale:
        return [GradientCase(name: "scale", inputs: [normal([3, 5])]) { $0[0].scaled(by: -1.5) }]
    case .mask:
        // Of what flows past it; `masksMaskTheGradient` is about the mask's own operand.
        let weight = Parameter(normal([4, 3], 2))
        weight.setMask(Mask(shape: [4, 3]) { $0 % 3 != 1 })
        return [
            GradientCase(name: "mask", inputs: [normal([2, 3])]) {
                $0[0].linear(weight: $0[0].tape.parameter(weight), bias: nil)
            }
        ]
    case .fakeQuantize:
        // A step of whole codes moves the result by as much, or not at all outside the range.
        let scheme = QuantizationScheme(
            bits: 4, isSigned: true, isSymmetric: true, granularity: .channel(axis: 1))
        let parameters = QuantizationParameters(
            scheme: scheme, scales: [0.125, 0.25, 0.5], zeroPoints: [0, 0, 0])
        let x = Tensor(
            [-40, -12.3, -4.2, -0.4, 0.3, 4.6, 15.7, 30, 1.2, -2.7, 22, -3.1].enumerated().map {
                Float($1) * parameters.scales[$0 % 3]
            }, shape: [4, 3])
        return [
            GradientCase(name: "fake quantization", inputs: [x], step: 0.5) {
                $0[0].fakeQuantized(parameters)
            }
        ]
    case .relu:
        return [GradientCase(name: "relu", inputs: [distinct([4, 7])]) { $0[0].relu() }]
    case .linear:
        return [
            GradientCase(name: "linear", inputs: [normal([3, 5]), normal([4, 5], 2)]) {
                $0[0].linear(weight: $0[1], bias: nil)
            },
            GradientCase(
                name: "linear with bias",
                inputs: [normal([3, 5]), normal([4, 5], 2), normal([4], 3)]
            ) { $0[0].linear(weight: $0[1], bias: $0[2]) },
            GradientCase(
                name: "linear of rank 3",
                inputs: [normal([2, 3, 5]), normal([4, 5], 2), normal([4], 3)]
            ) { $0[0].linear(weight: $0[1], bias: $0[2]) },
        ]
    case .conv2D:
        return [
            convolution("plain", x: [2, 4, 5, 2], weight: [3, 3, 2, 2], Op.Conv2D()),
            convolution(
                "with bias", x: [2, 3, 3, 2], weight: [3, 2, 2, 2], bias: true, Op.Conv2D()),
            convolution(
                "stride and padding", x: [2, 5, 4, 2], weight: [2, 3, 3, 2], bias: true,
                Op.Conv2D(
                    stride: Size2D(2, 1),
                    padding: Padding2D(top: 1, left: 0, bottom: 2, right: 1))),
            convolution(
                "dilation", x: [1, 6, 7, 2], weight: [2, 2, 3, 2],
                Op.Conv2D(padding: Padding2D(Size2D(1)), dilation: Size2D(3, 2))),
            convolution(
                "groups", x: [2, 4, 4, 6], weight: [4, 3, 3, 3], bias: true,
                Op.Conv2D(padding: Padding2D(Size2D(1)), groups: 2)),
            convolution(
                "depthwise", x: [1, 4, 4, 3], weight: [3, 3, 3, 1], Op.Conv2D(groups: 3)),
            convolution(
                "pointwise", x: [2, 3, 3, 4], weight: [5, 1, 1, 4], bias: true, Op.Conv2D()),
            convolution(
                "pointwise with stride", x: [2, 3, 3, 4], weight: [5, 1, 1, 4],
                Op.Conv2D(stride: Size2D(2))),
        ]
    case .maxPool2D:
        return [
            ("2", windowed(2, 2, 0)), ("3 / 1 padded", windowed(3, 1, 1)),
            ("3 / 2 rounded up", windowed(3, 2, 0, roundsUp: true)),
        ].map { name, window in
            GradientCase(name: "max pool \(name)", inputs: [distinct([2, 6, 5, 2])]) {
                $0[0].maxPool2D(window)
            }
        }
    case .averagePool2D:
        return [
            ("2", windowed(2, 2, 0), true), ("3 / 1 padded", windowed(3, 1, 1), true),
            ("without padding", windowed(3, 2, 1), false),
            ("rounded up", windowed(3, 2, 1, roundsUp: true), true),
        ].map { name, window, counts in
            GradientCase(name: "average pool \(name)", inputs: [normal([2, 6, 5, 2])]) {
                $0[0].averagePool2D(window, countsPadding: counts)
            }
        }
    case .batchNorm:
        return [
            batchNorm("training", mode: .training, affine: true, x: [7, 3]),
            batchNorm("training on images", mode: .training, affine: true, x: [2, 3, 2, 3]),
            batchNorm("training, plain", mode: .training, affine: false, x: [7, 3]),
            batchNorm("evaluation", mode: .evaluation, affine: true, x: [5, 3]),
            batchNorm("evaluation, plain", mode: .evaluation, affine: false, x: [5, 3]),
        ]
    case .softmax:
        return [0, 1, 2, -1].flatMap { axis in
            [
                GradientCase(name: "softmax of axis \(axis)", inputs: [normal([3, 4, 2])]) {
                    $0[0].softmax(axis: axis)
                },
                GradientCase(name: "log softmax of axis \(axis)", inputs: [normal([3, 4, 2])]) {
                    $0[0].logSoftmax(axis: axis)
                },
            ]
        }
    case .dropout:
        return [GradientCase(name: "dropout", inputs: [normal([6, 7])]) { $0[0].dropout(0.4) }]
    case .reshape:
        return [
            GradientCase(name: "reshape", inputs: [normal([2, 3, 4])]) {
                $0[0].reshaped(to: [4, -1])
            }
        ]
    case .crossEntropy:
        let classes = Op.CrossEntropy.Target.classes(labels)
        let reductions: [Reduction] = [.mean, .sum, .none]
        return reductions.flatMap { reduction in
            [
                crossEntropy(
                    "\(reduction)", Op.CrossEntropy(target: classes, reduction: reduction)),
                crossEntropy(
                    "\(reduction), weighted, smoothed, one class ignored",
                    Op.CrossEntropy(
                        target: classes, classWeights: weights, smoothing: 0.2, ignoredClass: 2,
                        reduction: reduction)),
                crossEntropy(
                    "\(reduction), soft",
                    Op.CrossEntropy(
                        target: .probabilities(soft), classWeights: weights, smoothing: 0.1,
                        reduction: reduction)),
            ]
        }
    case .distillation:
        let teacher = normal([5, 4], 9)
        return [nil, [true, false, true, true, false]].map { rows in
            GradientCase(
                name: "distillation \(rows == nil ? "" : "of some rows")", inputs: [normal([5, 4])]
            ) {
                $0[0].distillation(Op.Distillation(teacher: teacher, temperature: 2.5, rows: rows))
            }
        }
    case .unary: return functionChecks()
    case .binary: return binaryChecks()
    case .select: return selectChecks()
    case .fill: return fillChecks()
    case .reduce: return reduceChecks()
    case .cumulativeSum: return cumulativeSumChecks()
    case .permute: return shapeChecks()
    case .slice: return sliceChecks()
    case .concatenate: return concatenateChecks()
    case .pad: return padChecks()
    case .expand: return expandChecks()
    case .triangle: return triangleChecks()
    case .matMul: return matMulChecks()
    case .layerNorm: return layerNormChecks()
    case .gather: return gatherChecks()
    case .take: return takeChecks()
    case .scatterAdd: return scatterAddChecks()
    case .attention: return attentionChecks()
    case .residualNorm: return residualNormChecks()
    case .resample: return resampleChecks()
    }
}

/// One of each op; the attributes do not matter here.
let sampleOps: [Op] = [
    .add(Op.Add()), .scale(Op.Scale(factor: 1)),
    .mask(Op.ApplyMask(mask: Mask(words: [], shape: [0]))),
    .fakeQuantize(
        Op.FakeQuantize(
            parameters: QuantizationParameters(
                scheme: .activations(bits: 8), scales: [1], zeroPoints: [0]))),
    .relu(Op.ReLU()), .linear(Op.Linear()), .conv2D(Op.Conv2D()),
    .maxPool2D(Op.MaxPool2D(window: windowed(1, 1, 0))),
    .averagePool2D(Op.AveragePool2D(window: windowed(1, 1, 0))),
    .batchNorm(Op.BatchNorm(epsilon: 0, moments: nil)), .softmax(Op.Softmax()),
    .dropout(Op.Dropout(probability: 0, kept: .drawn(from: RandomStream(seed: 0)))),
    .reshape(Op.Reshape(to: [])), .crossEntropy(Op.CrossEntropy(target: .classes(labels))),
    .distillation(Op.Distillation(teacher: Tensor(0), temperature: 1)), .unary(Op.Unary(.exp)),
    .binary(Op.Binary(.multiply)), .select(Op.Select()), .fill(Op.Fill(value: 0)),
    .reduce(Op.Reduce(.sum, axes: nil)), .cumulativeSum(Op.CumulativeSum(axis: 0)),
    .permute(Op.Permute([])), .slice(Op.Slice([])), .concatenate(Op.Concatenate(axis: 0)),
    .pad(Op.Pad(.reflect, before: [], after: [])), .expand(Op.Expand(to: [])),
    .triangle(Op.Triangle(diagonal: 0, isLower: true)), .matMul(Op.MatMul()),
    .layerNorm(Op.LayerNorm(epsilon: 0)), .gather(Op.Gather(axis: 0, indices: labels)),
    .take(Op.Take(axis: 0, indices: labels)),
    .scatterAdd(Op.ScatterAdd(axis: 0, indices: labels)),
    .attention(Op.Attention(heads: 1, scale: 1)),
    .residualNorm(Op.ResidualNorm(norm: Op.LayerNorm(epsilon: 0))),
    .resample(Op.Resample(.linear, to: Size2D(1))),
]

/// The name of an op's case.
func opName(_ op: Op) -> String { String(describing: op).prefix { $0 != "(" }.description }

@Suite struct GradientTests {
    @Test(arguments: sampleOps.flatMap(checks)) func agreesWithDifferences(_ test: GradientCase) {
        let worst = GradientCheck.worstError(
            of: test.body, at: test.inputs, step: test.step, mode: test.mode)
        #expect(worst.error < 4e-3, "\(worst.place)")
    }

    /// The cases of the vocabulary as its source lists them: one that is not among the samples would not be checked.
    @Test func everyOpIsChecked() throws {
        let path = Fixtures.packageRoot + "/Sources/EspalierGraph/Op.swift"
        let source = try String(contentsOfFile: path, encoding: .utf8)
        let vocabulary = source.components(separatedBy: "package enum Op: Sendable {")[1]
            .components(separatedBy: "\n}")[0]
        let cases = vocabulary.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            return words.first == "case" ? String(words[1].prefix { $0 != "(" }) : nil
        }
        #expect(cases.count >= 33 && Set(cases) == Set(sampleOps.map(opName)))
        #expect(sampleOps.count == cases.count)
        for op in sampleOps { #expect(!checks(of: op).isEmpty, "\(opName(op))") }
    }

    /// Masked entries get a gradient of exactly +0, live ones the difference quotient.
    @Test func masksMaskTheGradient() {
        let x = normal([6, 13])
        let weight = Parameter(normal([10, 13], 2))
        let mask = Mask(shape: [10, 13]) { $0 % 7 != 2 }
        weight.setMask(mask)
        func loss(_ tape: Tape) -> Value {
            tape.input(x).linear(weight: tape.parameter(weight), bias: nil)
                .softmax().crossEntropy(IndexTensor([1, 2, 3, 4, 5, 6]))
        }
        let tape = Tape(mode: .training)
        let gradient = tape.gradients(of: loss(tape))[weight]?.elements ?? []
        #expect(gradient.count == 130)
        let start = weight.value
        for (index, value) in gradient.enumerated() {
            guard mask.isLive(index) else {
                #expect(value.bitPattern == 0)
                continue
            }
            func moved(_ delta: Float) -> Double {
                weight.update { unsafe $0.writing { unsafe $0[index] += delta } }
                defer { weight.assign(start) }
                return Double(loss(Tape(mode: .training)).tensor.scalar)
            }
            #expect(abs((moved(0.05) - moved(-0.05)) / 0.1 - Double(value)) < 1e-4)
        }
    }
}
