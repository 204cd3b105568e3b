import CEspalierKernels
import EspalierTensors
import Foundation
import Testing

private let functions: [esp_unary] = (ESP_ABS.rawValue...ESP_CLAMP.rawValue).map {
    esp_unary(rawValue: $0)
}
private let binaries: [esp_binary] = (ESP_SUBTRACT.rawValue...ESP_MINIMUM.rawValue).map {
    esp_binary(rawValue: $0)
}

/// Usual parameters; a bound on both sides for clamp, a power that is not whole.
private func parameters(_ function: esp_unary) -> (p: Float, q: Float) {
    switch function {
    case ESP_CLAMP: (-0.7, 0.9)
    case ESP_POWER: (1.5, 0)
    default: (1.25, 0)
    }
}

private func apply(_ isa: ISA, _ function: esp_unary, _ x: [Float]) -> [Float] {
    let (source, y) = (Guarded(x), Guarded<Float>(7, count: x.count))
    let (p, q) = parameters(function)
    unsafe kernels(isa).f32_unary(function, p, q, source.pointer, y.pointer, x.count)
    return y.values
}

/// Where the true error of a function is stated against the operand and not the result.
private func isAbsolute(_ function: esp_unary) -> Bool {
    function == ESP_GELU || function == ESP_GELU_TANH || function == ESP_SILU
        || function == ESP_HARD_SWISH
}

let functionKernelChecks: [String: KernelCheck] = [
    "f32_unary": {
        let edges: [Float] = [
            0, -0.0, .infinity, -.infinity, .nan, 1e-30, -1e-30, 1e30, -1e30,
            .leastNonzeroMagnitude, 0.7, -0.7, 3,
            -3, 88.5, -88.5, 20, -20,
        ]
        for function in functions {
            let (p, q) = parameters(function)
            for n in kernelSizes {
                for x in [numbers(n).map { 3 * $0 }, (0..<n).map { edges[$0 % edges.count] }] {
                    // Two bounds of a few ulp, and results below the least normal number may be 0.
                    let bounds = zip(x, apply(.scalar, function, x)).map { x, y in
                        let size = y.isFinite ? Double(max(abs(y), .leastNormalMagnitude).ulp) : 0
                        let own = isAbsolute(function) && x.isFinite ? max(abs(Double(x)), 1) : 0
                        return 9 * size + 3 * floatEpsilon * own
                            + 2 * Double(Float.leastNormalMagnitude)
                    }
                    for inPlace in [false, true] {
                        unsafe expectTwins(
                            "function \(function.rawValue) of \(n), in place: \(inPlace)",
                            bounds: bounds
                        ) { c in
                            let source = Guarded(x)
                            let y = inPlace ? source : Guarded<Float>(7, count: n)
                            unsafe c.f32_unary(function, p, q, source.pointer, y.pointer, n)
                            return y.values
                        }
                    }
                }
            }
        }
    },
    "f32_unary_gradient": {
        for function in functions {
            let (p, q) = parameters(function)
            for n in kernelSizes {
                let (x, dy) = (numbers(n).map { 3 * $0 }, numbers(n, 1))
                // Of terms that are at most as large as x squared and one.
                let bounds = zip(x, dy).map {
                    8 * floatEpsilon * abs(Double($1)) * (1 + Double($0 * $0) + slope($0))
                }
                func slope(_ x: Float) -> Double {
                    switch function {
                    case ESP_EXPM1, ESP_ELU: 2 * exp(Double(x))
                    case ESP_LOG, ESP_LOG1P: 1 / abs(Double(x)) + 1 / abs(1 + Double(x))
                    case ESP_SQRT: 1 / abs(Double(x))
                    case ESP_RSQRT: abs(Double(x * x * x))
                    default: 0
                    }
                }
                unsafe expectTwins("slope \(function.rawValue) of \(n)", bounds: bounds) { c in
                    let (saved, upstream) = (Guarded(x), Guarded(dy))
                    let dx = Guarded<Float>(7, count: n)
                    unsafe c.f32_unary_gradient(
                        function, p, q, saved.pointer, upstream.pointer, dx.pointer, n)
                    return dx.values
                }
            }
        }
    },
    "f32_binary": {
        for function in binaries {
            for n in kernelSizes {
                let (a, b) = (mixedNumbers(n), mixedNumbers(n, 3))
                unsafe expectTwins("function \(function.rawValue) of \(n) and \(n)") { c in
                    let (first, second) = (Guarded(a), Guarded(b))
                    let y = Guarded<Float>(7, count: n)
                    unsafe c.f32_binary(function, first.pointer, second.pointer, y.pointer, n)
                    return y.values
                }
            }
        }
    },
    "f32_binary_gradient": {
        for function in binaries {
            for n in kernelSizes {
                // Whole numbers tie, and hit 0.
                let a = numbers(n).enumerated().map { $0 % 3 == 0 ? $1.rounded() : abs($1) }
                let b = numbers(n, 3).enumerated().map { $0 % 3 == 0 ? $1.rounded() : $1 }
                let dy = numbers(n, 5)
                let isPower = function == ESP_POW
                let bounds = zip(zip(a, b), dy).map { operands, dy in
                    let y = pow(Double(operands.0), Double(operands.1))
                    let size = abs(Double(dy) * y * log(Double(abs(operands.0))))
                    return size.isFinite ? 4 * floatEpsilon * size : 0
                }
                for (hasA, hasB) in [(true, true), (true, false), (false, true)] {
                    let own = (hasA ? dy.map { _ in 0.0 } : []) + (hasB ? bounds : [])
                    unsafe expectTwins(
                        "slopes \(function.rawValue) of \(n)", bounds: isPower ? own : nil
                    ) { c in
                        let (first, second, upstream) = (Guarded(a), Guarded(b), Guarded(dy))
                        let (da, db) = (Guarded<Float>(7, count: n), Guarded<Float>(7, count: n))
                        unsafe c.f32_binary_gradient(
                            function, first.pointer, second.pointer, upstream.pointer,
                            hasA ? da.pointer : nil, hasB ? db.pointer : nil, n)
                        return (hasA ? da.values : []) + (hasB ? db.values : [])
                    }
                }
            }
        }
    },
    "f32_select": {
        for n in kernelSizes {
            let condition = (0..<n).map { [0, 1, -0.0, .nan, -3][$0 * 7 % 5] as Float }
            let (a, b) = (mixedNumbers(n), mixedNumbers(n, 3))
            unsafe expectTwins("select of \(n)") { c in
                let (mask, first, second) = (Guarded(condition), Guarded(a), Guarded(b))
                let y = Guarded<Float>(7, count: n)
                unsafe c.f32_select(mask.pointer, first.pointer, second.pointer, y.pointer, n)
                return y.values
            }
        }
    },
]

/// A function with its truth, where to look at it, and the error that its comment states.
private struct Accuracy: CustomTestStringConvertible, Sendable {
    let function: esp_unary
    let range: ClosedRange<Float>
    let ulps: Double
    /// Whether these are of max(|x|, 1) and not of the result.
    var isAbsolute = false
    let truth: @Sendable (Double) -> Double

    var testDescription: String { "function \(function.rawValue)" }
}

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

private let accuracies = [
    Accuracy(function: ESP_LOG, range: 1e-38...3e38, ulps: 2) { log($0) },
    Accuracy(function: ESP_LOG1P, range: -0.999...100, ulps: 4) { log1p($0) },
    Accuracy(function: ESP_EXPM1, range: -87...88, ulps: 5) { expm1($0) },
    Accuracy(function: ESP_TANH, range: -20...20, ulps: 3) { tanh($0) },
    Accuracy(function: ESP_SIGMOID, range: -87...88, ulps: 4, truth: sigmoid),
    Accuracy(function: ESP_ERF, range: -6...6, ulps: 3) { erf($0) },
    Accuracy(function: ESP_GELU, range: -30...30, ulps: 2, isAbsolute: true) {
        0.5 * $0 * erfc(-$0 / 2.0.squareRoot())
    },
    Accuracy(function: ESP_GELU_TANH, range: -30...30, ulps: 2, isAbsolute: true) {
        $0 * sigmoid(2 * (2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))
    },
    Accuracy(function: ESP_SILU, range: -80...88, ulps: 5) { $0 * sigmoid($0) },
]

@Suite struct FunctionAccuracyTests {
    /// Against the C library in double precision, evenly over the range and over its magnitudes.
    @Test(arguments: ISA.available, accuracies) private func staysInBounds(
        _ isa: ISA, _ test: Accuracy
    ) {
        let (low, high) = (test.range.lowerBound, test.range.upperBound)
        let count = 200_000
        let even = (0...count).map { low + (high - low) * (Float($0) / Float(count)) }
        let least = Float(1e-30)
        let bits = least.bitPattern...high.bitPattern
        let magnitudes = (0...count).map { index in
            let size = Float(
                bitPattern: bits.lowerBound
                    + UInt32(UInt64(bits.count - 1) * UInt64(index) / UInt64(count)))
            return low < 0 && index % 2 == 0 ? max(-size, low) : max(size, low)
        }
        var (worst, place): (Double, Float) = (0, 0)
        for x in [even, magnitudes] {
            for (x, y) in zip(x, apply(isa, test.function, x)) {
                let truth = test.truth(Double(x))
                guard abs(truth) >= Double(Float.leastNormalMagnitude) else { continue }
                let size = test.isAbsolute ? max(abs(x), 1) : Float(truth)
                let error = abs(Double(y) - truth) / Double(size.ulp)
                if !(error <= worst) { (worst, place) = (error, x) }
            }
        }
        #expect(worst <= test.ulps, "\(worst) ulp at \(place)")
    }

    /// The slopes of both forms of GELU, where both branches and the end of the fits are, against
    /// double precision.
    @Test(arguments: ISA.available, [false, true]) func slopesOfGELU(_ isa: ISA, isTanh: Bool) {
        let function = isTanh ? ESP_GELU_TANH : ESP_GELU
        let x = (-200_000...200_000).map { Float($0) * 30 / 200_000 } + [1e4, -1e4, 1e30, -1e30]
        let (saved, upstream) = (Guarded(x), Guarded<Float>(1, count: x.count))
        let dx = Guarded<Float>(7, count: x.count)
        unsafe kernels(isa).f32_unary_gradient(
            function, 0, 0, saved.pointer, upstream.pointer, dx.pointer, x.count)
        func truth(_ x: Double) -> Double {
            let root = (2 / Double.pi).squareRoot()
            if !isTanh {
                return 0.5 * erfc(-x / 2.0.squareRoot()) + x * 0.5 * root * exp(-0.5 * x * x)
            }
            let z = max(-40, min(x, 40))
            let s = sigmoid(2 * root * (z + 0.044715 * z * z * z))
            return s + z * s * (1 - s) * 2 * root * (1 + 0.134145 * z * z)
        }
        var worst = 0.0
        for (x, slope) in zip(x, dx.values) {
            let error = abs(Double(slope) - truth(Double(x)))
            if !(error <= worst) { worst = error }
        }
        // The scalar form takes the library's functions of rounded operands.
        #expect(worst <= (isa == .scalar ? 4e-6 : 5e-7))
    }
}
