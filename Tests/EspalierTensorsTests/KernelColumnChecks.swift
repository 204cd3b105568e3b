import CEspalierKernels
import EspalierTensors
import Testing

private func absolute(_ x: [Float]) -> [Double] { x.map { abs(Double($0)) } }

/// What a column's sum of `terms` starts from and adds up to, in magnitude.
private func columnMagnitudes(
    _ start: [Float], rows: Int, columns: Int, _ term: (Int, Int) -> Double
) -> [Double] {
    (0..<columns).map { column in
        (0..<rows).reduce(abs(Double(start[column]))) {
            $0 + abs(term($1 * columns + column, column))
        }
    }
}

let columnKernelChecks: [String: KernelCheck] = [
    "f32_add_row": {
        for (rows, columns) in kernelMatrices {
            unsafe expectTwins("add row to \(rows) x \(columns)") { c in
                let (row, y) = (Guarded(numbers(columns)), Guarded(numbers(rows * columns, 1)))
                unsafe c.f32_add_row(row.pointer, y.pointer, rows, columns)
                return y.values
            }
        }
    },
    "f32_column_sums": {
        for (rows, columns) in kernelMatrices {
            unsafe expectTwins("column sums of \(rows) x \(columns)") { c in
                let (x, sums) = (Guarded(numbers(rows * columns)), Guarded(numbers(columns, 1)))
                unsafe c.f32_column_sums(x.pointer, rows, columns, sums.pointer)
                return sums.values
            }
        }
    },
    "f32_column_affine": {
        for (rows, columns) in kernelMatrices {
            let (x, scale) = (numbers(rows * columns), numbers(columns, 1))
            let shift = numbers(columns, 2)
            let (sx, ss, sh) = (absolute(x), absolute(scale), absolute(shift))
            let bounds = sx.indices.map {
                2 * floatEpsilon * (sx[$0] * ss[$0 % columns] + sh[$0 % columns])
            }
            unsafe expectTwins("column affine of \(rows) x \(columns)", bounds: bounds) { c in
                let (x, scale, shift) = (Guarded(x), Guarded(scale), Guarded(shift))
                let y = Guarded<Float>(7, count: rows * columns)
                unsafe c.f32_column_affine(
                    x.pointer, scale.pointer, shift.pointer, y.pointer, rows, columns)
                return y.values
            }
        }
    },
]
