import CEspalierKernels
import EspalierTensors
import Testing

let updateKernelChecks: [String: KernelCheck] = [
    "f32_sgd": {
        let rules = [
            esp_sgd(rate: 0.1, momentum: 0, gain: 1, decay: 0, nesterov: false),
            esp_sgd(rate: 0.1, momentum: 0.9, gain: 1, decay: 0.01, nesterov: false),
            esp_sgd(rate: 0.3, momentum: 0.8, gain: 0.5, decay: 0.1, nesterov: true),
        ]
        for n in kernelSizes {
            for rule in rules {
                let (g, x, m) = (numbers(n), numbers(n, 1), numbers(n, 2))
                // Magnitudes of what is added up, momentum before value.
                let move = (0..<n).map {
                    abs(Double(rule.momentum * m[$0]))
                        + abs(Double(g[$0])) + abs(Double(rule.decay * x[$0]))
                }
                let value = (0..<n).map { 4 * floatEpsilon * (abs(Double(x[$0])) + 2 * move[$0]) }
                let momentum = move.map { 4 * floatEpsilon * $0 }
                let hasMomentum = rule.momentum != 0
                unsafe expectTwins("SGD of \(n)", bounds: value + (hasMomentum ? momentum : [])) {
                    c in
                    let (gradient, target, state) = (Guarded(g), Guarded(x), Guarded(m))
                    unsafe withUnsafePointer(to: rule) {
                        unsafe c.f32_sgd(
                            $0, gradient.pointer, target.pointer,
                            hasMomentum ? state.pointer : nil, n)
                    }
                    return target.values + (hasMomentum ? state.values : [])
                }
            }
        }
    },
    "f32_adamw": {
        let rule = esp_adamw(
            beta1: 0.9, beta2: 0.99, epsilon: 1e-6, step: 0.02, root: 0.4, keep: 0.999)
        for n in kernelSizes {
            let (g, x, m) = (numbers(n), numbers(n, 1), numbers(n, 2))
            let v = numbers(n, 3).map { $0 * $0 }
            var (value, first, second) = ([Double](), [Double](), [Double]())
            for i in 0..<n {
                let moment = abs(Double(0.9 * m[i])) + abs(Double(0.1 * g[i]))
                let square = 0.99 * Double(v[i]) + 0.01 * Double(g[i] * g[i])
                let move = 0.02 * moment / (square.squareRoot() / 0.4 + 1e-6)
                first.append(4 * floatEpsilon * moment)
                second.append(4 * floatEpsilon * square)
                value.append(8 * floatEpsilon * (abs(Double(x[i])) + move))
            }
            unsafe expectTwins("AdamW of \(n)", bounds: value + first + second) { c in
                let (gradient, target) = (Guarded(g), Guarded(x))
                let (first, second) = (Guarded(m), Guarded(v))
                unsafe withUnsafePointer(to: rule) {
                    unsafe c.f32_adamw(
                        $0, gradient.pointer, target.pointer, first.pointer, second.pointer, n)
                }
                return target.values + first.values + second.values
            }
        }
    },
    "f32_adam": {
        var rule = esp_adam(
            beta1: 0.9, beta2: 0.99, epsilon: 1e-3, decay: 0.1, step: 0.02, root: 0.4)
        for n in kernelSizes {
            for hasLargest in [false, true] {
                let bounds = [Double](repeating: 64 * floatEpsilon, count: 4 * n)
                unsafe expectTwins("Adam of \(n)", bounds: bounds) { c in
                    let (gradient, value) = (Guarded(numbers(n)), Guarded(numbers(n, 1)))
                    let (first, second) = (Guarded(numbers(n, 2)), Guarded(squares(n, 3)))
                    let largest = Guarded(squares(n, 4))
                    unsafe c.f32_adam(
                        &rule, gradient.pointer, value.pointer, first.pointer, second.pointer,
                        hasLargest ? largest.pointer : nil, n)
                    return value.values + first.values + second.values + largest.values
                }
            }
        }
    },
    "f32_adagrad": {
        var rule = esp_adagrad(rate: 0.1, epsilon: 1e-3, decay: 0.1)
        for n in kernelSizes {
            let bounds = [Double](repeating: 64 * floatEpsilon, count: 2 * n)
            unsafe expectTwins("AdaGrad of \(n)", bounds: bounds) { c in
                let (gradient, value) = (Guarded(numbers(n)), Guarded(numbers(n, 1)))
                let sum = Guarded(squares(n, 2))
                unsafe c.f32_adagrad(&rule, gradient.pointer, value.pointer, sum.pointer, n)
                return value.values + sum.values
            }
        }
    },
    "f32_rmsprop": {
        var rule = esp_rmsprop(
            rate: 0.1, smoothing: 0.9, epsilon: 0.1, decay: 0.1, momentum: 0.8)
        for n in kernelSizes {
            for isCentred in [false, true] {
                let bounds = [Double](repeating: 512 * floatEpsilon, count: 4 * n)
                unsafe expectTwins("RMSProp of \(n)", bounds: bounds) { c in
                    let (gradient, value) = (Guarded(numbers(n)), Guarded(numbers(n, 1)))
                    let square = Guarded(squares(n, 2).map { $0 + 4 })
                    let (mean, momentum) = (Guarded(numbers(n, 3)), Guarded(numbers(n, 4)))
                    unsafe c.f32_rmsprop(
                        &rule, gradient.pointer, value.pointer, square.pointer,
                        isCentred ? mean.pointer : nil, isCentred ? momentum.pointer : nil, n)
                    return value.values + square.values + mean.values + momentum.values
                }
            }
        }
    },
]

private func squares(_ count: Int, _ salt: Int) -> [Float] {
    numbers(count, salt).map { $0 * $0 }
}
