import CEspalierKernels
import EspalierTensors
import Testing

/// Words as two floats each, so that every bit counts, those of what would be a NaN too.
private func halves(_ words: [UInt32]) -> [Float] {
    words.flatMap { [Float($0 & 0xFFFF), Float($0 >> 16)] }
}

/// A word of two numbers that bfloat16 holds.
private func pairs(_ count: Int, _ salt: Int, special: Bool) -> [UInt32] {
    let values = special ? mixedNumbers(2 * count, salt) : numbers(2 * count, salt)
    // A CPU's own products take denormal numbers as 0, which infinity turns into NaN, and in another order than the
    // reference large ones would overflow.
    let bits = values.map {
        $0.isSubnormal || ($0.isFinite && abs($0) > 1e30) ? 0 : $0.bitPattern >> 16
    }
    return (0..<count).map { bits[2 * $0] | bits[2 * $0 + 1] << 16 }
}

private func float(_ half: UInt32) -> Double { Double(Float(bitPattern: half << 16)) }

private func checkPairs(_ block: ProductBlock) {
    let left = pairs(block.aCount, 1, special: block.special)
    let right = pairs(block.bCount, 2, special: block.special)
    let start = numbers(block.biasCount, 3)
    let before = numbers(block.cCount, 4)
    var bounds = [Double](repeating: 0, count: before.count)
    for i in 0..<block.rows {
        for j in 0..<block.columns {
            let at = block.transposed ? j * block.cPitch + i : i * block.cPitch + j
            var size = block.accumulates ? abs(Double(before[at])) : 0
            if block.bias { size = abs(Double(start[block.transposed ? i : j])) }
            for k in 0..<block.depth {
                let a = left[block.aTransposed ? k * block.aPitch + i : i * block.aPitch + k]
                let b = right[j / 32 * block.bPanel + k * ProductBlock.bPitch + j % 32]
                size += abs(float(a & 0xFFFF) * float(b & 0xFFFF))
                size += abs(float(a >> 16) * float(b >> 16))
            }
            bounds[at] = size * floatEpsilon * Double(2 * block.depth + 2)
        }
    }
    unsafe expectTwins("pairs \(block)", bounds: bounds, varies: true) { kernels in
        let a = Guarded(left.map { Float(bitPattern: $0) })
        let b = Guarded(right.map { Float(bitPattern: $0) })
        let (from, c) = (Guarded(start), Guarded(before))
        var p = unsafe block.product(a, b, c, bias: from)
        unsafe kernels.bf16_product(&p)
        return c.values
    }
}

let halfProductKernelChecks: [String: KernelCheck] = [
    "bf16_product": {
        for block in ProductBlock.all { checkPairs(block) }
    },
    "bf16_pack_panel": {
        for columns in [1, 2, 15, 16, 17, 31, 32] {
            for depth in [0, 1, 2, 5, 15, 16, 17, 31, 32, 33, 34, 63, 101] {
                for isTransposed in [false, true] {
                    let pitch = (isTransposed ? depth : columns) + 5
                    let lines = isTransposed ? columns : depth
                    let words = (depth + 1) / 2 * 32 - (columns > 16 ? 0 : 16)
                    unsafe expectTwins("pairs of \(depth)x\(columns) \(isTransposed)") { c in
                        let x = Guarded(mixedNumbers(max(lines * pitch - 5, 0)))
                        let y = Guarded<UInt32>(7, count: max(words, 0))
                        unsafe c.bf16_pack_panel(
                            x.pointer, isTransposed ? 1 : pitch, isTransposed ? pitch : 1, depth,
                            columns, y.pointer)
                        return halves(y.values)
                    }
                }
            }
        }
    },
    "bf16_pair_rows": {
        for (rows, columns) in kernelMatrices {
            unsafe expectTwins("pairs of rows of \(rows)x\(columns)") { c in
                let x = Guarded(mixedNumbers(max(rows * (columns + 3) - 3, 0)))
                let y = Guarded<UInt32>(7, count: max((rows + 1) / 2 * (columns + 2) - 2, 0))
                unsafe c.bf16_pair_rows(
                    x.pointer, columns + 3, rows, columns, y.pointer, columns + 2)
                return halves(y.values)
            }
        }
    },
    "bf16_pair_columns": {
        for (rows, columns) in kernelMatrices + [(3, 30), (3, 32), (2, 63)] {
            unsafe expectTwins("pairs of columns of \(rows)x\(columns)") { c in
                let words = (columns + 1) / 2
                let x = Guarded(mixedNumbers(max(rows * (columns + 3) - 3, 0)))
                let y = Guarded<UInt32>(7, count: max(rows * (words + 2) - 2, 0))
                unsafe c.bf16_pair_columns(
                    x.pointer, columns + 3, rows, columns, y.pointer, words + 2)
                return halves(y.values)
            }
        }
        // Halfway cases to even, a carry beyond the largest, and denormal numbers stay what they are.
        for isa in ISA.available {
            let x = Guarded(
                [0x3F80_8000, 0x3F81_8000, 0x7F7F_FFFF, 0x8000_8001, 0x0040_0000].map {
                    Float(bitPattern: $0)
                })
            let y = Guarded<UInt32>(7, count: 3)
            unsafe kernels(isa).bf16_pair_columns(x.pointer, 5, 1, 5, y.pointer, 3)
            #expect(y.values == [0x3F82_3F80, 0x8001_7F80, 0x0000_0040])
        }
    },
]
