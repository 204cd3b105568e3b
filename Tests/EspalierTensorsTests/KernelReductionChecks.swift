import CEspalierKernels
import EspalierTensors
import Testing

/// Rows of softmax and their gradients: factor, operands, result.
private typealias Rows = (
    esp_kernels, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>,
    UnsafeMutablePointer<Float>, Int, Int
) -> Void

private let factor: Float = 0.7

private func rows(
    _ name: String, first: (Int, Int) -> [Float],
    bound: (_ a: [Double], _ b: [Double]) -> [Double], _ kernel: Rows
) {
    for (rows, columns) in kernelMatrices {
        let n = rows * columns
        let (a, b) = (first(rows, columns), numbers(n, 1))
        var bounds: [Double] = []
        for row in 0..<rows {
            let range = row * columns..<(row + 1) * columns
            bounds += bound(a[range].map(Double.init), b[range].map(Double.init))
        }
        unsafe expectTwins("\(name) of \(rows) x \(columns)", bounds: bounds) { c in
            let (first, second) = (Guarded(a), Guarded(b))
            let y = Guarded<Float>(7, count: n)
            unsafe kernel(c, first.pointer, second.pointer, y.pointer, rows, columns)
            return y.values
        }
    }
}

private func logits(_ rows: Int, _ columns: Int) -> [Float] {
    numbers(rows * columns).map { 5 * $0 }
}

/// Outputs of the scalar softmax, for the gradients.
private func outputs(_ rows: Int, _ columns: Int, logarithm: Bool) -> [Float] {
    let c = unsafe kernels(.scalar)
    let x = Guarded(logits(rows, columns))
    let y = Guarded<Float>(0, count: rows * columns)
    if logarithm {
        unsafe c.f32_log_softmax(1, x.pointer, y.pointer, rows, columns)
    } else {
        unsafe c.f32_softmax(1, x.pointer, y.pointer, rows, columns)
    }
    return y.values
}

/// Rounding errors of a sum in sixteen lanes and a few operations more.
private func roundings(_ columns: Int) -> Double { floatEpsilon * (Double(columns) / 16 + 12) }

let reductionKernelChecks: [String: KernelCheck] = [
    "f32_sum": {
        for n in kernelSizes {
            let x = numbers(n)
            let bound = roundings(n) * x.reduce(0) { $0 + abs(Double($1)) }
            unsafe expectTwins("sum of \(n)", bounds: [bound]) { c in
                let source = Guarded(x)
                return [unsafe c.f32_sum(source.pointer, n)]
            }
        }
    },
    "f32_sum_squares": {
        for n in kernelSizes {
            let x = numbers(n)
            let truth = x.reduce(0) { $0 + Double($1) * Double($1) }
            var results: [(ISA, Double)] = []
            for isa in ISA.available {
                let source = Guarded(x)
                results.append((isa, unsafe kernels(isa).f32_sum_squares(source.pointer, n)))
            }
            for (isa, result) in results {
                #expect(abs(result - truth) <= 1e-14 * truth, "\(n) [\(isa)]")
            }
            let vectors = results.filter { $0.0 != .scalar }.map(\.1.bitPattern)
            #expect(Set(vectors).count <= 1)
        }
    },
    "f32_abs_max": {
        for n in kernelSizes {
            let x = numbers(n)
            var cases = [x]
            for index in [0, n / 2, n - 1] where n > 0 {
                for value in [.nan, -.infinity, -1e30, -0.0] as [Float] {
                    var other = x
                    other[index] = value
                    cases.append(other)
                }
            }
            for x in cases {
                unsafe expectTwins("largest magnitude of \(n)") { c in
                    let source = Guarded(x)
                    let largest = unsafe c.f32_abs_max(source.pointer, n)
                    #expect(largest.isNaN == x.contains { $0.isNaN })
                    return [largest]
                }
            }
        }
    },
    "f32_softmax": {
        unsafe rows(
            "softmax", first: logits,
            bound: { x, _ in
                let largest = x.map(abs).max() ?? 0
                return x.map { _ in roundings(x.count) + floatEpsilon * 2 * largest }
            }
        ) { unsafe $0.f32_softmax(factor, $1, $3, $4, $5) }
        unsafe softmaxInPlace {
            unsafe $0.f32_softmax(1, $1, $1, $2, $3)
        } to: {
            unsafe $0.f32_softmax(1, $1, $2, $3, $4)
        }
        softmaxEdges()
    },
    "f32_log_softmax": {
        unsafe rows(
            "log softmax", first: logits,
            bound: { x, _ in
                let largest = x.map(abs).max() ?? 0
                return x.map { _ in roundings(x.count) + floatEpsilon * 6 * largest }
            }
        ) { unsafe $0.f32_log_softmax(factor, $1, $3, $4, $5) }
        unsafe softmaxInPlace {
            unsafe $0.f32_log_softmax(1, $1, $1, $2, $3)
        } to: {
            unsafe $0.f32_log_softmax(1, $1, $2, $3, $4)
        }
    },
    "f32_softmax_gradient": {
        unsafe rows(
            "softmax gradient", first: { outputs($0, $1, logarithm: false) },
            bound: { y, dy in
                let dot = zip(y, dy).reduce(0) { $0 + abs($1.0 * $1.1) }
                return zip(y, dy).map { roundings(y.count) * $0 * (abs($1) + dot) }
            }
        ) { unsafe $0.f32_softmax_gradient($1, $2, $3, $4, $5) }
    },
    "f32_log_softmax_gradient": {
        unsafe rows(
            "log softmax gradient", first: { outputs($0, $1, logarithm: true) },
            bound: { y, dy in
                let total = dy.reduce(0) { $0 + abs($1) }
                return dy.map { roundings(y.count) * (abs($0) + total) }
            }
        ) { unsafe $0.f32_log_softmax_gradient($1, $2, $3, $4, $5) }
    },
]

/// The result must be the same where y is x.
private func softmaxInPlace(
    _ inPlace: (esp_kernels, UnsafeMutablePointer<Float>, Int, Int) -> Void,
    to kernel: (
        esp_kernels, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, Int, Int
    ) -> Void
) {
    for isa in ISA.available {
        for (rows, columns) in kernelMatrices {
            let x = logits(rows, columns)
            let (a, b, y) = (Guarded(x), Guarded(x), Guarded<Float>(0, count: x.count))
            unsafe inPlace(kernels(isa), a.pointer, rows, columns)
            unsafe kernel(kernels(isa), b.pointer, y.pointer, rows, columns)
            #expect(a.values == y.values)
        }
    }
}

private func softmaxEdges() {
    for isa in ISA.available {
        func softmax(_ x: [Float]) -> [Float] {
            let (source, y) = (Guarded(x), Guarded<Float>(0, count: x.count))
            unsafe kernels(isa).f32_softmax(1, source.pointer, y.pointer, 1, x.count)
            return y.values
        }
        // Far beyond the range of exp, minus infinity, and NaN.
        #expect(softmax([1e30, -1e30]) == [1, 0])
        #expect(softmax([0, -.infinity, 0]) == [0.5, 0, 0.5])
        for columns in [3, 16, 19] {
            for index in 0..<columns {
                var x = [Float](repeating: 1, count: columns)
                x[index] = .nan
                #expect(softmax(x).allSatisfy { $0.isNaN })
            }
        }
    }
}
