import CEspalierKernels
import EspalierTensors
import Testing

private let kinds: [esp_reduction] = (ESP_SUM.rawValue...ESP_NORM.rawValue).map {
    esp_reduction(rawValue: $0)
}

/// Rounding errors of a sum in sixteen lanes and a few operations more.
private func roundings(_ columns: Int) -> Double { floatEpsilon * (Double(columns) / 16 + 12) }

/// Numbers with ties.
private func tied(_ count: Int) -> [Float] { numbers(count).map { ($0 * 2).rounded() / 2 } }

/// How far a row's number may be off: a few roundings of what is added.
private func bound(_ kind: esp_reduction, _ row: ArraySlice<Float>, correction: Float) -> Double {
    let count = Double(row.count)
    let sum = row.reduce(0) { $0 + abs(Double($1)) }
    let squares = row.reduce(0) { $0 + Double($1) * Double($1) }
    let error = roundings(row.count)
    switch kind {
    case ESP_SUM: return error * sum
    case ESP_MEAN: return count == 0 ? 0 : error * sum / count
    case ESP_VARIANCE, ESP_DEVIATION:
        let divisor = count - Double(correction)
        return divisor > 0 ? error * (squares / divisor + (squares / divisor).squareRoot()) : 0
    case ESP_LOG_SUM_EXP: return error * (1 + sum)
    case ESP_NORM: return floatEpsilon * squares.squareRoot()
    default: return 0
    }
}

private func reduced(
    _ kind: esp_reduction, _ x: [Float], correction: Float, _ rows: Int, _ columns: Int
) -> [Float] {
    let (source, y) = (Guarded(x), Guarded<Float>(0, count: rows))
    unsafe kernels(.scalar).f32_row_reduce(
        kind, correction, source.pointer, y.pointer, rows, columns)
    return y.values
}

let rowKernelChecks: [String: KernelCheck] = [
    "f32_row_reduce": {
        for kind in kinds {
            for (rows, columns) in kernelMatrices {
                for correction: Float in [0, 1] {
                    for x in [numbers(rows * columns), tied(rows * columns)] {
                        let bounds = (0..<rows).map {
                            bound(
                                kind, x[$0 * columns..<($0 + 1) * columns], correction: correction)
                        }
                        unsafe expectTwins(
                            "reduction \(kind.rawValue) of \(rows) x \(columns)", bounds: bounds
                        ) { c in
                            let (source, y) = (Guarded(x), Guarded<Float>(7, count: rows))
                            unsafe c.f32_row_reduce(
                                kind, correction, source.pointer, y.pointer, rows, columns)
                            return y.values
                        }
                    }
                }
            }
        }
    },
    "f32_row_reduce_gradient": {
        for kind in kinds {
            for (rows, columns) in kernelMatrices {
                let (x, dy) = (tied(rows * columns), numbers(rows, 1))
                let y = reduced(kind, x, correction: 1, rows, columns)
                let bounds = x.indices.map { index in
                    let row = index / columns
                    let size = abs(Double(dy[row])) * (1 + abs(Double(x[index])))
                    // The deviation divides by a number that may be small.
                    let scale = kind == ESP_DEVIATION ? 1 / max(Double(y[row]), 1e-3) : 1
                    return roundings(columns) * size * scale * 4
                }
                unsafe expectTwins(
                    "slope of reduction \(kind.rawValue) of \(rows) x \(columns)", bounds: bounds
                ) { c in
                    let (source, result, upstream) = (Guarded(x), Guarded(y), Guarded(dy))
                    let dx = Guarded<Float>(7, count: x.count)
                    unsafe c.f32_row_reduce_gradient(
                        kind, 1, source.pointer, result.pointer, upstream.pointer, dx.pointer, rows,
                        columns)
                    return dx.values
                }
            }
        }
    },
    "f32_row_extreme": {
        for (rows, columns) in kernelMatrices {
            for largest in [true, false] {
                for x in [tied(rows * columns), mixedNumbers(rows * columns)] {
                    unsafe expectTwins("extreme of \(rows) x \(columns)") { c in
                        let (source, index) = (Guarded(x), Guarded<Int32>(0, count: rows))
                        unsafe c.f32_row_extreme(
                            largest, source.pointer, index.pointer, rows, columns)
                        for (row, place) in index.values.enumerated() where columns > 0 {
                            let values = x[row * columns..<(row + 1) * columns]
                            let found = values[row * columns + Int(place)]
                            #expect(
                                found.isNaN
                                    ? values.prefix(Int(place)).allSatisfy { !$0.isNaN }
                                    : found == (largest ? values.max() : values.min()))
                        }
                        return index.values.map(Float.init)
                    }
                }
            }
        }
    },
    "f32_layer_norm": {
        for (rows, columns) in kernelMatrices {
            for (isCentred, shift) in [(true, 0), (true, 100), (false, 3)] as [(Bool, Float)] {
                let x = numbers(rows * columns).map { $0 + shift }
                let added = numbers(rows * columns, 1)
                let (scale, bias) = (numbers(columns, 2), numbers(columns, 3))
                let error = 2 * roundings(columns)
                for (hasResidual, hasScale) in [(false, false), (false, true), (true, true)] {
                    let bound = x.indices.map {
                        error
                            * (12 + abs(Double(x[$0] - (isCentred ? shift : 0))) * 4
                                + abs(Double(added[$0])) * 4)
                    }
                    // Normalized rows, the result, the factors.
                    let bounds =
                        bound + bound.map { 4 * $0 } + [Double](repeating: error * 4, count: rows)
                    unsafe expectTwins("norm of \(rows) x \(columns)", bounds: bounds) { c in
                        let (source, other) = (Guarded(x), Guarded(added))
                        let (factors, shifts) = (Guarded(scale), Guarded(bias))
                        let normal = Guarded<Float>(7, count: x.count)
                        let y = Guarded<Float>(7, count: x.count)
                        let r = Guarded<Float>(7, count: rows)
                        unsafe c.f32_layer_norm(
                            isCentred, 0.1, source.pointer, hasResidual ? other.pointer : nil,
                            hasScale ? factors.pointer : nil, hasScale ? shifts.pointer : nil,
                            normal.pointer, r.pointer, hasScale ? y.pointer : nil, rows, columns)
                        if hasScale {
                            // Without the normalized rows the same result.
                            let only = Guarded<Float>(7, count: x.count)
                            unsafe c.f32_layer_norm(
                                isCentred, 0.1, source.pointer, hasResidual ? other.pointer : nil,
                                factors.pointer, shifts.pointer, nil, r.pointer, only.pointer,
                                rows, columns)
                            #expect(only.values == y.values)
                        }
                        return normal.values + y.values
                            + (columns == 0 ? r.values.map { _ in 0 } : r.values)
                    }
                }
            }
        }
    },
    "f32_layer_norm_gradient": {
        for (rows, columns) in kernelMatrices {
            for (isCentred, hasScale) in [(true, false), (true, true), (false, true)] {
                let n = rows * columns
                let (y, dy, r) = (numbers(n), numbers(n, 1), numbers(rows, 2).map { abs($0) })
                let (scale, start) = (numbers(columns, 3), numbers(columns, 4))
                let most = scale.reduce(1) { max($0, abs(Double($1))) }
                let bounds =
                    (0..<n).map {
                        roundings(columns) * 8 * Double(r[$0 / columns]) * most
                            * (2 + abs(Double(y[$0])) * 2 + abs(Double(dy[$0])))
                    }
                    + [Double](repeating: roundings(16 * rows) * 16, count: 2 * columns)
                unsafe expectTwins("slope of norm of \(rows) x \(columns)", bounds: bounds) { c in
                    let (result, upstream, inverse) = (Guarded(y), Guarded(dy), Guarded(r))
                    let (factors, sums, shifts) = (Guarded(scale), Guarded(start), Guarded(start))
                    let dx = Guarded<Float>(7, count: n)
                    unsafe c.f32_layer_norm_gradient(
                        isCentred, result.pointer, inverse.pointer,
                        hasScale ? factors.pointer : nil, upstream.pointer, dx.pointer,
                        hasScale ? sums.pointer : nil, shifts.pointer, rows, columns)
                    return dx.values + sums.values + shifts.values
                }
            }
        }
    },
    "f32_cumulative_sum": {
        for (rows, columns) in kernelMatrices {
            for reversed in [false, true] {
                let x = numbers(rows * columns)
                unsafe expectTwins("cumulative sum of \(rows) x \(columns)") { c in
                    let (source, y) = (Guarded(x), Guarded<Float>(7, count: x.count))
                    unsafe c.f32_cumulative_sum(
                        reversed, source.pointer, y.pointer, rows, columns)
                    return y.values
                }
            }
        }
    },
]
