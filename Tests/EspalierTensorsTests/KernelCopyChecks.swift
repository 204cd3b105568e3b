import CEspalierKernels
import EspalierTensors
import Testing

/// Extents of an array, where it is read and where it is written.
private let arrays: [(extents: [Int64], from: [Int64], to: [Int64])] = [
    ([], [], []), ([0], [1], [1]), ([17], [1], [1]), ([17], [3], [1]), ([17], [0], [1]),
    ([17], [1], [2]), ([17, 35], [1, 17], [35, 1]), ([35, 33], [33, 1], [1, 35]),
    ([5, 0], [1, 5], [1, 1]), ([3, 5, 7], [1, 21, 3], [35, 7, 1]),
    ([3, 5, 7], [0, 7, 1], [35, 7, 1]), ([3, 5, 7], [7, 0, 1], [70, 14, 2]),
    ([2, 3, 2, 3, 2], [1, 2, 6, 12, 36], [36, 12, 6, 2, 1]),
]

/// Places in rows of an axis, negative ones among them where they may be.
private func places(_ count: Int, below extent: Int, hasNone: Bool) -> [Int32] {
    RandomStream(seed: UInt64(count)).integers(count, below: max(extent, 1)).enumerated().map {
        hasNone && $0 % 5 == 3 ? -1 : Int32($1)
    }
}

let copyKernelChecks: [String: KernelCheck] = [
    "f32_strided_copy": {
        for (extents, from, to) in arrays {
            let (x, size) = (numbers(1_300), 1_300)
            // What the definition says, one index at a time.
            var expected = [Float](repeating: 7, count: size)
            for flat in 0..<Int(extents.reduce(1, *)) {
                var (rest, read, write) = (flat, 0, 0)
                for axis in extents.indices.reversed() {
                    let index = rest % Int(extents[axis])
                    rest /= Int(extents[axis])
                    read += index * Int(from[axis])
                    write += index * Int(to[axis])
                }
                expected[write] = x[read]
            }
            for isa in ISA.available {
                let (source, y) = (Guarded(x), Guarded<Float>(7, count: size))
                unsafe kernels(isa).f32_strided_copy(
                    extents.count, extents, from, to, source.pointer, y.pointer)
                #expect(y.values == expected, "\(extents) \(from) \(to) [\(isa)]")
            }
        }
    },
    "f32_take": {
        for (rows, columns) in kernelMatrices {
            let x = numbers(11 * columns)
            let index = places(rows, below: 11, hasNone: true)
            let expected = index.flatMap { place in
                (0..<columns).map { place < 0 ? 0 : x[Int(place) * columns + $0] }
            }
            for isa in ISA.available {
                let (source, at) = (Guarded(x), Guarded(index))
                let y = Guarded<Float>(7, count: rows * columns)
                unsafe kernels(isa).f32_take(at.pointer, source.pointer, y.pointer, rows, columns)
                #expect(y.values == expected)
            }
        }
    },
    "f32_take_gradient": {
        for (rows, columns) in kernelMatrices {
            let (dy, start) = (numbers(rows * columns), numbers(11 * columns, 1))
            let index = places(rows, below: 11, hasNone: true)
            var expected = start
            for (row, place) in index.enumerated() where place >= 0 {
                for column in 0..<columns {
                    expected[Int(place) * columns + column] += dy[row * columns + column]
                }
            }
            for isa in ISA.available {
                let (source, at, dx) = (Guarded(dy), Guarded(index), Guarded(start))
                unsafe kernels(isa).f32_take_gradient(
                    at.pointer, source.pointer, dx.pointer, rows, columns, columns)
                #expect(dx.values == expected)
            }
        }
    },
    "f32_gather": {
        for (rows, columns) in kernelMatrices {
            let x = numbers(11 * columns)
            let index = places(rows * columns, below: 11, hasNone: false)
            let expected = index.enumerated().map { x[Int($1) * columns + $0 % columns] }
            for isa in ISA.available {
                let (source, at) = (Guarded(x), Guarded(index))
                let y = Guarded<Float>(7, count: rows * columns)
                unsafe kernels(isa).f32_gather(
                    at.pointer, source.pointer, y.pointer, rows, columns)
                #expect(y.values == expected)
            }
        }
    },
    "f32_scatter_add": {
        for (rows, columns) in kernelMatrices {
            let (x, start) = (numbers(rows * columns), numbers(11 * columns, 1))
            let index = places(rows * columns, below: 11, hasNone: false)
            var expected = start
            for (flat, place) in index.enumerated() {
                expected[Int(place) * columns + flat % columns] += x[flat]
            }
            for isa in ISA.available {
                let (source, at, y) = (Guarded(x), Guarded(index), Guarded(start))
                unsafe kernels(isa).f32_scatter_add(
                    at.pointer, source.pointer, y.pointer, rows, columns)
                #expect(y.values == expected)
            }
        }
    },
    "f32_to_f16": {
        unsafe checkHalves(halfCases.map { ($0.value, $0.float16) }) { c, x, y, n in
            unsafe c.f32_to_f16(x, y, n)
        }
    },
    "f32_to_bf16": {
        unsafe checkHalves(halfCases.map { ($0.value, $0.bfloat16) }) { c, x, y, n in
            unsafe c.f32_to_bf16(x, y, n)
        }
    },
    "f16_to_f32": {
        let all = (0...UInt16.max).map(\.self)
        for isa in ISA.available {
            let (x, y) = (Guarded(all), Guarded<Float>(7, count: all.count))
            unsafe kernels(isa).f16_to_f32(x.pointer, y.pointer, all.count)
            for (bits, value) in zip(all, y.values) {
                // Sign, exponent and fraction, by the definition of the format.
                let (exponent, fraction) = (Int(bits >> 10 & 31), Double(bits & 0x3FF))
                guard exponent < 31 else {
                    #expect(fraction == 0 ? value.isInfinite : value.isNaN)
                    continue
                }
                let size =
                    exponent == 0
                    ? fraction * 0x1p-24
                    : (1024 + fraction)
                        * Double(sign: .plus, exponent: exponent - 25, significand: 1)
                #expect(Double(value.magnitude) == size)
                #expect((value.sign == .minus) == (bits >> 15 == 1))
            }
            // And back: every number of the format is its own rounding.
            let again = Guarded<UInt16>(7, count: all.count)
            unsafe kernels(isa).f32_to_f16(y.pointer, again.pointer, all.count)
            for (bits, same) in zip(all, again.values) where bits & 0x7FFF <= 0x7C00 {
                #expect(bits == same)
            }
        }
    },
    "bf16_to_f32": {
        let all = (0...UInt16.max).map(\.self)
        for isa in ISA.available {
            let (x, y) = (Guarded(all), Guarded<Float>(7, count: all.count))
            unsafe kernels(isa).bf16_to_f32(x.pointer, y.pointer, all.count)
            #expect(zip(all, y.values).allSatisfy { $1.bitPattern == UInt32($0) << 16 })
        }
    },
]

/// Rounding by hand: values with their bits in both formats.
private let halfCases: [(value: Float, float16: UInt16, bfloat16: UInt16)] = [
    (0, 0, 0), (-0.0, 0x8000, 0x8000), (1, 0x3C00, 0x3F80), (-2, 0xC000, 0xC000),
    (.infinity, 0x7C00, 0x7F80), (-.infinity, 0xFC00, 0xFF80),
    // The largest half, the middle to the next power, and what is just below that.
    (65_504, 0x7BFF, 0x4780), (65_520, 0x7C00, 0x4780), (65_519, 0x7BFF, 0x4780),
    // Ties go to even: 1 + 2^-11 and 1 + 3 * 2^-11.
    (0x1.002p0, 0x3C00, 0x3F80), (0x1.006p0, 0x3C02, 0x3F80),
    (0x1.01p0, 0x3C04, 0x3F80), (0x1.03p0, 0x3C0C, 0x3F82), (0x1.010002p0, 0x3C04, 0x3F81),
    // The least normal half and what lies below it, ties among it.
    (0x1p-14, 0x0400, 0x3880), (0x1.ff8p-15, 0x03FF, 0x3880), (0x1.ffcp-15, 0x0400, 0x3880),
    (0x1p-24, 0x0001, 0x3380),
    (0x1p-25, 0x0000, 0x3300), (0x1.000002p-25, 0x0001, 0x3300), (0x1.8p-24, 0x0002, 0x33C0),
    (0x1.4p-23, 0x0002, 0x3420), (0x1p-26, 0, 0x3280), (-0x1p-24, 0x8001, 0xB380),
    (.greatestFiniteMagnitude, 0x7C00, 0x7F80), (.leastNonzeroMagnitude, 0, 0),
    (.nan, 0x7E00, 0x7FC0),
]

private func checkHalves(
    _ cases: [(value: Float, bits: UInt16)],
    _ kernel: (esp_kernels, UnsafeMutablePointer<Float>, UnsafeMutablePointer<UInt16>, Int) -> Void
) {
    for isa in ISA.available {
        let (x, y) = (Guarded(cases.map(\.value)), Guarded<UInt16>(7, count: cases.count))
        unsafe kernel(kernels(isa), x.pointer, y.pointer, cases.count)
        for (test, got) in zip(cases, y.values) {
            #expect(got == test.bits, "\(test.value): \(String(got, radix: 16)) [\(isa)]")
        }
    }
}
