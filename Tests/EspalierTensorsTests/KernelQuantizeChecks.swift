import CEspalierKernels
import EspalierTensors
import Testing

private let quantizers: [esp_quantizer] = [
    esp_quantizer(scale: 0.02, zero_point: 0, low: -127, high: 127),
    esp_quantizer(scale: 0.5, zero_point: 3, low: 0, high: 15),
    esp_quantizer(scale: 0.013, zero_point: 97, low: 0, high: 255),
]

/// Random numbers, exact ties, and what is not finite.
private func values(_ count: Int) -> [Float] {
    let special: [Float] = [0.25, -0.75, 1.25, 1e30, -1e30, .nan, .infinity, -.infinity, 0, -0.0]
    return numbers(count).enumerated().map { $0 % 7 == 3 ? special[$0 / 7 % special.count] : $1 }
}

let quantizeKernelChecks: [String: KernelCheck] = [
    "f32_fake_quantize": {
        for (count, quantizer) in kernelSizes.flatMap({ n in quantizers.map { (n, $0) } }) {
            let x = Guarded(values(count))
            unsafe expectTwins("\(count) values") { c in
                let y = Guarded<Float>(0, count: count)
                var q = quantizer
                unsafe c.f32_fake_quantize(&q, x.pointer, y.pointer, count)
                return y.values
            }
        }
    },
    "f32_fake_quantize_gradient": {
        for (count, quantizer) in kernelSizes.flatMap({ n in quantizers.map { (n, $0) } }) {
            let (x, dy) = (Guarded(values(count)), Guarded(numbers(count, 1)))
            unsafe expectTwins("\(count) values") { c in
                let dx = Guarded<Float>(0, count: count)
                var q = quantizer
                unsafe c.f32_fake_quantize_gradient(&q, x.pointer, dy.pointer, dx.pointer, count)
                return dx.values
            }
        }
    },
    "f32_quantize_u8": {
        for (count, quantizer) in kernelSizes.flatMap({ n in quantizers[1...].map { (n, $0) } }) {
            let numbers = values(count)
            let x = Guarded(numbers)
            for isa in ISA.available {
                let y = Guarded<UInt8>(9, count: count)
                var q = quantizer
                unsafe kernels(isa).f32_quantize_u8(&q, x.pointer, y.pointer, count)
                let want = numbers.map {
                    UInt8(
                        Rounding.code(
                            $0, scale: q.scale, zeroPoint: q.zero_point, codes: q.low...q.high))
                }
                #expect(y.values == want, "\(isa), \(count) values")
            }
        }
    },
    "u8_dequantize": {
        for (count, quantizer) in kernelSizes.flatMap({ n in quantizers.map { (n, $0) } }) {
            let x = Guarded((0..<count).map { UInt8($0 * 37 & 255) })
            unsafe expectTwins("\(count) codes") { c in
                let y = Guarded<Float>(0, count: count)
                var q = quantizer
                unsafe c.u8_dequantize(&q, x.pointer, y.pointer, count)
                return y.values
            }
        }
    },
]

/// Mechanism 3, the scalar part: the quantizer against double precision.
@Suite struct QuantizerTests {
    @Test("T3.1: all codes of 4 and 8 bits exact against double precision, and idempotent")
    func T3_1_exactAndIdempotent() {
        for bits in [4, 8] {
            for scheme in [
                QuantizationScheme.weights(bits: bits), .activations(bits: bits),
                QuantizationScheme(
                    bits: bits, isSigned: true, isSymmetric: false, granularity: .tensor),
            ] {
                let (scale, zero) = scheme.parameters(low: -0.61, high: 0.93)
                for code in scheme.codes {
                    let value = Float(code - zero) * scale
                    func quantized(_ x: Float) -> Int32 {
                        Rounding.code(x, scale: scale, zeroPoint: zero, codes: scheme.codes)
                    }
                    // The value of a code has that code; so has all that is nearer to it than to its neighbours.
                    #expect(quantized(value) == code)
                    for offset in [-0.49, -0.2, 0.3, 0.49] {
                        let x = Float((Double(code - zero) + offset) * Double(scale))
                        let exact = (Double(x) / Double(scale)).rounded(.toNearestOrEven)
                        let want = min(
                            max(Int32(exact) + zero, scheme.codes.lowerBound),
                            scheme.codes.upperBound)
                        #expect(quantized(x) == want)
                    }
                }
            }
        }
    }

    @Test("T3.1: worked examples")
    func T3_1_workedExamples() {
        let w: [Float] = [-0.6, -0.1, 0.24, 0.9]
        let four = QuantizationScheme.activations(bits: 4)
        let (scale, zero) = four.parameters(low: -0.6, high: 0.9)
        #expect(abs(scale - 0.1) < 1e-7 && zero == 6)
        let codes = w.map { Rounding.code($0, scale: scale, zeroPoint: zero, codes: four.codes) }
        #expect(codes == [0, 5, 8, 15])
        let eight = QuantizationScheme.activations(bits: 8)
        let fine = eight.parameters(low: -0.6, high: 0.9)
        #expect(abs(fine.scale - 0.00588235) < 1e-8 && fine.zeroPoint == 102)
        #expect(
            w.map {
                Rounding.code($0, scale: fine.scale, zeroPoint: fine.zeroPoint, codes: eight.codes)
            } == [0, 85, 143, 255])
    }
}
