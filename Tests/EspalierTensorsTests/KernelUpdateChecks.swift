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
]
