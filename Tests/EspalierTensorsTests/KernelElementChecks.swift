import CEspalierKernels
import EspalierTensors
import Testing

private typealias Unary = (
    esp_kernels, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, Int
) -> Void
private typealias Binary = (
    esp_kernels, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>,
    UnsafeMutablePointer<Float>, Int
) -> Void

/// Zeros of both signs, infinities, NaN and ordinary numbers.
func mixedNumbers(_ count: Int, _ salt: Int = 0) -> [Float] {
    var x = numbers(count, salt)
    let specials: [Float] = [0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -3e38]
    for index in stride(from: salt % 5, to: count, by: 5) {
        x[index] = specials[(index / 5 + salt) % specials.count]
    }
    return x
}

/// y from x, in another buffer and in place.
private func unary(
    _ name: String, bound: ((Float) -> Double)? = nil,
    values: @escaping @Sendable (Int) -> [Float] = { mixedNumbers($0) }, _ kernel: Unary
) {
    for n in kernelSizes {
        let x = values(n)
        for inPlace in [false, true] {
            let bounds = bound.map { x.map($0) }
            unsafe expectTwins("\(name) of \(n), in place: \(inPlace)", bounds: bounds) { c in
                let source = Guarded(x)
                let y = inPlace ? source : Guarded<Float>(7, count: n)
                unsafe kernel(c, source.pointer, y.pointer, n)
                return y.values
            }
        }
    }
}

/// y from a and b, in a buffer of its own and in that of a.
private func binary(_ name: String, _ kernel: Binary) {
    for n in kernelSizes {
        let (a, b) = (mixedNumbers(n), mixedNumbers(n, 3))
        for inPlace in [false, true] {
            unsafe expectTwins("\(name) of \(n), in place: \(inPlace)") { c in
                let (first, second) = (Guarded(a), Guarded(b))
                let y = inPlace ? first : Guarded<Float>(7, count: n)
                unsafe kernel(c, first.pointer, second.pointer, y.pointer, n)
                return y.values
            }
        }
    }
}

let elementKernelChecks: [String: KernelCheck] = [
    "f32_add": { unsafe binary("add") { unsafe $0.f32_add($1, $2, $3, $4) } },
    "f32_mul": { unsafe binary("mul") { unsafe $0.f32_mul($1, $2, $3, $4) } },
    "f32_relu_gradient": {
        unsafe binary("relu gradient") { unsafe $0.f32_relu_gradient($1, $2, $3, $4) }
    },
    "f32_scale": { unsafe unary("scale") { unsafe $0.f32_scale(-1.7, $1, $2, $3) } },
    "f32_relu": { unsafe unary("relu") { unsafe $0.f32_relu($1, $2, $3) } },
    "f32_exp": {
        unsafe unary(
            "exp", bound: { 3 * Double(exponential($0).ulp) },
            values: { numbers($0).map { max(min($0 * 30, 88), -87) } }
        ) { unsafe $0.f32_exp($1, $2, $3) }
    },
    "f32_axpy": {
        for n in kernelSizes {
            let (x, y) = (numbers(n), numbers(n, 1))
            let bounds = zip(x, y).map { floatEpsilon * (2 * abs(Double($0)) + abs(Double($1))) }
            unsafe expectTwins("axpy of \(n)", bounds: bounds) { c in
                let (source, target) = (Guarded(x), Guarded(y))
                unsafe c.f32_axpy(-1.3, source.pointer, target.pointer, n)
                return target.values
            }
        }
    },
    "f32_mask": {
        for n in kernelSizes {
            let mask = Mask(shape: [n]) { RandomStream(seed: 4).words(n)[$0] & 1 == 1 }
            let x = mixedNumbers(n)
            for inPlace in [false, true] {
                unsafe expectTwins("mask of \(n)") { c in
                    let (words, source) = (Guarded(mask.words), Guarded(x))
                    let y = inPlace ? source : Guarded<Float>(7, count: n)
                    unsafe c.f32_mask(words.pointer, source.pointer, y.pointer, n)
                    let values = y.values
                    for index in 0..<n where !mask.isLive(index) {
                        #expect(values[index].bitPattern == 0)
                    }
                    return values
                }
            }
        }
    },
    "f32_keep": {
        for n in kernelSizes {
            let words = RandomStream(seed: 5).words(n)
            for threshold in [0, 1 << 31, words.first ?? 1, .max] {
                unsafe expectTwins("keep of \(n)") { c in
                    let (source, y) = (Guarded(words), Guarded<Float>(7, count: n))
                    unsafe c.f32_keep(source.pointer, threshold, 1.25, y.pointer, n)
                    return y.values
                }
            }
        }
    },
    "u32_philox": {
        for n in kernelSizes {
            // The counter's low word overflows inside the run.
            for block: UInt64 in [0, UInt64(UInt32.max) - 20, .max - 7] {
                unsafe expectTwins("philox of \(n)") { c in
                    let y = Guarded<UInt32>(7, count: 4 * n)
                    unsafe c.u32_philox(
                        0x1234_5678_9abc_def0, 0xfedc_ba98_7654_3210, block, y.pointer, n)
                    // In halves: as bits, some would be NaN.
                    return y.values.flatMap { [Float($0 >> 16), Float($0 & 0xFFFF)] }
                }
            }
        }
    },
    "u8_crc32c": {
        for n in kernelSizes {
            let bytes = RandomStream(seed: 6).words(n).map { UInt8(truncatingIfNeeded: $0) }
            unsafe expectTwins("crc32c of \(n)") { c in
                let source = Guarded(bytes)
                let crc = unsafe c.u8_crc32c(0x1357_9bdf, source.pointer, n)
                // In halves: a float holds 24 bits.
                return [Float(crc >> 16), Float(crc & 0xFFFF)]
            }
        }
    },
]

private func exponential(_ x: Float) -> Float {
    let one: [Float] = [x]
    let (source, y) = (Guarded(one), Guarded<Float>(0, count: 1))
    unsafe kernels(.scalar).f32_exp(source.pointer, y.pointer, 1)
    return y.values[0]
}
