import CEspalierKernels
import EspalierTensors
import Testing

/// Rows, columns and depth around the tiles of both vector widths, and primes.
let productBlocks = [
    (1, 1, 1), (1, 32, 5), (2, 16, 3), (3, 17, 0), (5, 31, 16), (6, 33, 17), (7, 64, 31),
    (13, 15, 64), (14, 32, 33), (15, 48, 7), (16, 7, 100), (17, 100, 2), (28, 65, 13), (31, 97, 37),
    (0, 8, 3), (8, 0, 3),
]

/// A product whose factors are not dense and whose result has space between its rows, in one of the ways that a block
/// can be computed.
private func checkBlock(
    _ rows: Int, _ columns: Int, _ depth: Int, aTransposed: Bool, transposed: Bool, bias: Bool,
    accumulates: Bool, special: Bool
) {
    let context =
        "product \(rows)x\(columns)x\(depth) \(aTransposed) \(transposed) \(bias) \(accumulates)"
    func values(_ count: Int, _ salt: Int) -> [Float] {
        special ? mixedNumbers(count, salt) : numbers(count, salt)
    }
    let panels = (columns + 31) / 32
    let (bPitch, bPanel) = (35, depth * 35 + 3)
    let aPitch = (aTransposed ? rows : depth) + 3
    let cPitch = (transposed ? rows : columns) + 2
    let (aLines, cLines) = (aTransposed ? depth : rows, transposed ? columns : rows)
    unsafe expectTwins(context) { kernels in
        let a = Guarded(values(max(aLines * aPitch - 3, 0), 1))
        let b = Guarded(values(panels * bPanel, 2))
        let start = Guarded(values(transposed ? rows : columns, 3))
        let c = Guarded(values(max(cLines * cPitch - 2, 0), 4))
        var p = unsafe esp_f32_product(
            a: a.pointer, a_row: aTransposed ? 1 : aPitch, a_depth: aTransposed ? aPitch : 1,
            b: b.pointer, b_pitch: bPitch, b_panel: bPanel, c: c.pointer, c_pitch: cPitch,
            rows: rows, columns: columns, depth: depth,
            bias: bias ? UnsafePointer(start.pointer) : nil, accumulates: accumulates,
            transposed: transposed)
        unsafe kernels.f32_product(&p)
        return c.values
    }
}

let productKernelChecks: [String: KernelCheck] = [
    "f32_product": {
        for (index, (rows, columns, depth)) in productBlocks.enumerated() {
            for aTransposed in [false, true] {
                for (transposed, bias, accumulates) in [
                    (false, false, false), (false, true, false), (false, false, true),
                    (true, false, false), (true, true, false),
                ] {
                    checkBlock(
                        rows, columns, depth, aTransposed: aTransposed, transposed: transposed,
                        bias: bias, accumulates: accumulates, special: index % 4 == 3)
                }
            }
        }
    },
    "f32_pack_panel": {
        for columns in [1, 2, 15, 16, 17, 31, 32] {
            for depth in [0, 1, 5, 15, 16, 17, 33, 100] {
                for (isTransposed, isRounded) in [
                    (false, false), (false, true), (true, false), (true, true),
                ] {
                    let pitch = (isTransposed ? depth : columns) + 5
                    let lines = isTransposed ? columns : depth
                    unsafe expectTwins("panel of \(depth)x\(columns) \(isTransposed)") { c in
                        let x = Guarded(mixedNumbers(max(lines * pitch - 5, 0)))
                        let y = Guarded<Float>(
                            7, count: max(depth * 32 - (columns > 16 ? 0 : 16), 0))
                        unsafe c.f32_pack_panel(
                            x.pointer, isTransposed ? 1 : pitch, isTransposed ? pitch : 1, depth,
                            columns, isRounded, y.pointer)
                        return y.values
                    }
                }
            }
        }
    },
    "f32_copy_rows": {
        for (rows, columns) in kernelMatrices {
            for isRounded in [false, true] {
                unsafe expectTwins("copy of \(rows)x\(columns)") { c in
                    let x = Guarded(mixedNumbers(max(rows * (columns + 3) - 3, 0)))
                    let y = Guarded<Float>(7, count: max(rows * (columns + 2) - 2, 0))
                    unsafe c.f32_copy_rows(
                        x.pointer, columns + 3, rows, columns, isRounded, y.pointer, columns + 2)
                    return y.values
                }
            }
        }
        // Halfway cases to even, a carry into the exponent and beyond the largest.
        for isa in ISA.available {
            let bits: [(UInt32, UInt32)] = [
                (0x3F80_8000, 0x3F80_0000), (0x3F81_8000, 0x3F82_0000), (0x3F80_8001, 0x3F81_0000),
                (0x3FFF_FFFF, 0x4000_0000), (0x7F7F_FFFF, 0x7F80_0000), (0x8000_8000, 0x8000_0000),
            ]
            let x = Guarded(bits.map { Float(bitPattern: $0.0) })
            let y = Guarded<Float>(7, count: bits.count)
            unsafe kernels(isa).f32_copy_rows(
                x.pointer, bits.count, 1, bits.count, true, y.pointer, bits.count)
            #expect(y.values.map(\.bitPattern) == bits.map(\.1))
        }
    },
    "f32_dots": {
        for (rows, depth) in kernelMatrices {
            for bias in [false, true] {
                unsafe expectTwins("dots of \(rows)x\(depth)") { c in
                    let matrix = Guarded(numbers(max(rows * (depth + 3) - 3, 0)))
                    let (x, start) = (Guarded(numbers(depth, 1)), Guarded(numbers(rows, 2)))
                    let y = Guarded<Float>(7, count: rows)
                    unsafe c.f32_dots(
                        matrix.pointer, depth + 3, x.pointer,
                        bias ? UnsafePointer(start.pointer) : nil, rows, depth, y.pointer)
                    return y.values
                }
            }
        }
    },
]
