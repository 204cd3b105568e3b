import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors
import EspalierTesting

/// Golden cases of quantization.
let goldenQuantizationBodies: [String: GoldenRunner.Body] = [
    "fake_quant": { test in
        let scales = try test.tensor("input.scale")
        let axis = test.ints("axis")?[0]
        let scheme = QuantizationScheme(
            bits: test.int("bits", default: 8), isSigned: test.bool("signed", default: true),
            isSymmetric: test.ints("qmin") != nil,
            granularity: axis.map { .channel(axis: $0) } ?? .tensor)
        let parameters = QuantizationParameters(
            scheme: scheme, scales: scales.elements,
            zeroPoints: try test.integers("input.zero_point").elements)
        var results = try operands(test, "input.x") { $0[0].fakeQuantized(parameters) }
        let x = try test.tensor("input.x")
        let codes = Kernels.codes(of: x, parameters)
        results["expected.q"] = .tensor(Tensor(codes.map(Float.init), shape: x.shape))
        let ones = Tensor(repeating: 1, shape: x.shape)
        results["expected.inside"] = .tensor(
            Kernels.fakeQuantizeGradient(x, upstream: ones, parameters))
        return results
    },
    "qparams": { test in
        guard test.number("divisor", default: 127) != 127.5 else { throw NotCovered() }
        let symmetric = test.bool("symmetric", default: false)
        let scheme = QuantizationScheme(
            bits: test.int("bits", default: 8),
            isSigned: symmetric || test.bool("signed", default: false), isSymmetric: symmetric,
            granularity: .tensor)
        let (low, high) = (try test.tensor("input.min"), try test.tensor("input.max"))
        let both = zip(low.elements, high.elements).map {
            scheme.parameters(low: $0, high: $1)
        }
        return [
            "expected.scale": .tensor(Tensor(both.map(\.scale), shape: low.shape)),
            "expected.zero_point": .tensor(
                Tensor(both.map { Float($0.zeroPoint) }, shape: low.shape)),
        ]
    },
    "observer": { test in
        let axis = test.ints("axis")?[0]
        var observer = Observer(
            test.string("kind") == "min_max"
                ? .extremes : .movingAverage(share: Float(test.number("c", default: 0.01))),
            axis: axis)
        let batches = try test.tensor("input.batches")
        let shape = Shape(batches.shape.dropFirst())
        let size = shape.elementCount
        var (lows, highs) = ([Float](), [Float]())
        for batch in 0..<batches.shape[0] {
            let part = Array(batches.elements[batch * size..<(batch + 1) * size])
            observer.observe(Tensor(part, shape: shape))
            lows += observer.low
            highs += observer.high
        }
        let result: Shape =
            axis == nil ? [batches.shape[0]] : [batches.shape[0], observer.low.count]
        return [
            "expected.min": .tensor(Tensor(lows, shape: result)),
            "expected.max": .tensor(Tensor(highs, shape: result)),
        ]
    },
]
