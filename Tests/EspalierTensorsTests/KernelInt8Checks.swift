import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// Random codes, the same for the same arguments; extremes are frequent, so that saturation would show.
private func codes(_ count: Int, _ salt: UInt64) -> [UInt8] {
    RandomStream(seed: salt).words(count).map { $0 % 5 == 0 ? 255 : UInt8($0 >> 8 & 255) }
}

private func weights(_ count: Int, _ salt: UInt64, density: Double = 1) -> [Int8] {
    RandomStream(seed: salt).words(count).map { word in
        if Double(word & 0xFFFF) / 65_536 > density { return 0 }
        return word % 7 == 0 ? -127 : word % 7 == 1 ? 127 : Int8(truncatingIfNeeded: word >> 16 | 1)
    }
}

private func requantization(_ outputs: Int, depth: Int, _ salt: UInt64) -> Requantization {
    let random = RandomStream(seed: salt)
    return Requantization(
        bias: random.integers(outputs, below: 20_000).map { Int32($0 - 10_000) },
        scale: random.child(1).uniform(outputs).map { (0.2 + $0) / Float(40 * max(depth, 1)) },
        zeroPoint: Int32(salt % 40), range: Int32(salt % 3)...Int32(255 - salt % 5))
}

/// The three kinds of result, written down from their definition.
private func expected(
    acc: Int32, bias: Int32, scale: Float, zeroPoint: Int32, range: ClosedRange<Int32>
) -> (code: UInt8, value: Float) {
    let value = Float(acc + bias) * scale
    let rounded = Int64(min(max(value, -1e6), 1e6).rounded(.toNearestOrEven)) + Int64(zeroPoint)
    return (UInt8(min(max(rounded, Int64(range.lowerBound)), Int64(range.upperBound))), value)
}

let int8KernelChecks: [String: KernelCheck] = [
    "u8s8_dense": {
        for (index, shape) in [
            (1, 1, 4, 1, 1), (7, 5, 8, 65, 3), (6, 6, 4, 64, 3), (3, 17, 12, 100, 1),
            (1, 13, 300, 33, 1), (5, 5, 16, 16, 2), (9, 1, 20, 130, 3),
        ].enumerated() {
            let (height, width, channels, outputs, kernel) = shape
            for (stride, padding) in [(1, 0), (2, 1), (1, 2)] {
                let (outY, outX) = (
                    (height + 2 * padding - kernel) / stride + 1,
                    (width + 2 * padding - kernel) / stride + 1
                )
                guard height + 2 * padding >= kernel, width + 2 * padding >= kernel else {
                    continue
                }
                let window = esp_window(
                    height: Int32(height), width: Int32(width), channels: Int32(channels),
                    pitch: Int32(channels + index % 3), out_height: Int32(outY),
                    out_width: Int32(outX), kernel_height: Int32(kernel),
                    kernel_width: Int32(kernel), stride_y: Int32(stride), stride_x: Int32(stride),
                    pad_top: Int32(padding), pad_left: Int32(padding), dilation_y: 1, dilation_x: 1)
                checkDense(window, outputs: outputs, salt: UInt64(index * 3 + stride))
            }
        }
    },
    "u8s8_sparse_1x4": { checkSparse(.oneByFour) },
    "u8s8_sparse_4x4": { checkSparse(.fourByFour) },
    "u8_to_block": {
        for (tokens, inputs) in [(64, 64), (1, 4), (63, 100), (17, 7), (5, 1), (0, 8)] {
            let rows = codes(tokens * (inputs + 3), UInt64(tokens + inputs))
            for isa in ISA.available {
                let source = Guarded(rows)
                let block = Guarded<UInt8>(9, count: (inputs + 3) / 4 * 256)
                unsafe kernels(isa).u8_to_block(
                    source.pointer, inputs + 3, tokens, inputs, block.pointer)
                let got = block.values
                for token in 0..<64 {
                    for input in 0..<inputs {
                        let want = token < tokens ? rows[token * (inputs + 3) + input] : 0
                        #expect(got[input / 4 * 256 + token * 4 + input % 4] == want)
                    }
                }
            }
        }
    },
    "u8_from_block": {
        for (tokens, inputs) in [(64, 64), (1, 4), (63, 100), (17, 7), (0, 8)] {
            let blocked = codes((inputs + 3) / 4 * 256, UInt64(tokens * inputs + 1))
            for isa in ISA.available {
                let source = Guarded(blocked)
                let rows = Guarded<UInt8>(9, count: tokens * (inputs + 2))
                unsafe kernels(isa).u8_from_block(
                    source.pointer, tokens, inputs, rows.pointer, inputs + 2)
                let got = rows.values
                for token in 0..<tokens {
                    for input in 0..<inputs {
                        let want = blocked[input / 4 * 256 + token * 4 + input % 4]
                        #expect(got[token * (inputs + 2) + input] == want)
                    }
                }
            }
        }
    },
]

// Against a triple loop over the weights as they were before packing.
private func checkDense(_ window: esp_window, outputs: Int, salt: UInt64) {
    let channels = Int(window.channels)
    let taps = Int(window.kernel_height * window.kernel_width)
    let pixels = Int(window.out_height * window.out_width)
    let image = codes(Int(window.height * window.width) * Int(window.pitch), salt)
    let matrix = weights(outputs * taps * channels, salt + 50)
    let zero = UInt8(salt * 11 % 256)
    let table = requantization(outputs, depth: taps * channels * 60, salt)
    let layer = DenseInt8(
        matrix, outputs: outputs, taps: taps, channels: channels, inputZeroPoint: zero, table)
    var sums = [Int32](repeating: 0, count: pixels * outputs)
    for pixel in 0..<pixels {
        for output in 0..<outputs {
            for tap in 0..<taps {
                let y =
                    pixel / Int(window.out_width) * Int(window.stride_y) - Int(window.pad_top) + tap
                    / Int(window.kernel_width)
                let x =
                    pixel % Int(window.out_width) * Int(window.stride_x) - Int(window.pad_left)
                    + tap
                    % Int(window.kernel_width)
                let inside = y >= 0 && y < window.height && x >= 0 && x < window.width
                for channel in 0..<channels {
                    let code =
                        inside
                        ? image[(y * Int(window.width) + x) * Int(window.pitch) + channel] : zero
                    let weight = matrix[(output * taps + tap) * channels + channel]
                    sums[pixel * outputs + output] += Int32(code) * Int32(weight)
                }
            }
        }
    }
    let bias = RandomStream(seed: salt).integers(outputs, below: 20_000).map { Int32($0 - 10_000) }
    let scale = RandomStream(seed: salt).child(1).uniform(outputs).map {
        (0.2 + $0) / Float(40 * max(taps * channels * 60, 1))
    }
    for isa in ISA.available {
        let source = Guarded(image)
        let pitch = outputs + 3
        let bytes = Guarded<UInt8>(7, count: pixels * pitch - 3)
        let floats = Guarded<Float>(7, count: pixels * pitch - 3)
        let integers = Guarded<Int32>(7, count: pixels * pitch - 3)
        func run(_ kind: esp_out, _ y: UnsafeMutableRawPointer, _ size: Int) {
            // In two calls, to see that a part is the part of the whole.
            let cut = pixels / 3
            for (first, count) in [(0, cut), (cut, pixels - cut)] {
                unsafe layer.multiply(
                    kernels(isa), window, image: source.pointer, first: first, count: count,
                    kind: kind, into: y + first * pitch * size, pitch: pitch)
            }
        }
        unsafe run(ESP_OUT_U8, bytes.pointer, 1)
        unsafe run(ESP_OUT_F32, floats.pointer, 4)
        unsafe run(ESP_OUT_S32, integers.pointer, 4)
        let (codes, values, exact) = (bytes.values, floats.values, integers.values)
        for pixel in 0..<pixels {
            for output in 0..<outputs {
                let sum = sums[pixel * outputs + output]
                let want = expected(
                    acc: sum, bias: bias[output], scale: scale[output],
                    zeroPoint: Int32(salt % 40), range: Int32(salt % 3)...Int32(255 - salt % 5))
                let at = pixel * pitch + output
                guard exact[at] == sum + bias[output], codes[at] == want.code,
                    values[at] == want.value
                else {
                    Issue.record(
                        "\(isa), pixel \(pixel), output \(output): \(exact[at]) \(codes[at]) \(values[at]), expected \(sum + bias[output]) \(want)"
                    )
                    return
                }
            }
            for gap in 0..<3 where pixel < pixels - 1 {
                #expect(codes[pixel * pitch + outputs + gap] == 7)
            }
        }
    }
}

private func checkSparse(_ block: SparseInt8.Block) {
    for (index, shape) in [(4, 4), (8, 16), (64, 128), (100, 36), (384, 64), (12, 400)].enumerated()
    {
        let (outputs, inputs) = shape
        for density in [0.0, 0.05, 0.1, 0.5, 1] {
            let salt = UInt64(index * 7 + 1)
            let matrix = weights(outputs * inputs, salt, density: density)
            let table = requantization(outputs, depth: inputs * 60, salt)
            let layer = SparseInt8(
                matrix, outputs: outputs, inputs: inputs, block: block, table)
            let dense = DenseInt8(
                matrix, outputs: outputs, taps: 1, channels: inputs, inputZeroPoint: 0, table)
            let rows = codes(64 * inputs, salt + 9)
            // The dense kernel is checked against a plain loop above.
            let row = esp_window(
                height: 1, width: 64, channels: Int32(inputs), pitch: Int32(inputs), out_height: 1,
                out_width: 64, kernel_height: 1, kernel_width: 1, stride_y: 1, stride_x: 1,
                pad_top: 0, pad_left: 0, dilation_y: 1, dilation_x: 1)
            let source = Guarded(rows)
            let want = Guarded<UInt8>(0, count: 64 * outputs)
            unsafe dense.multiply(
                kernels(.scalar), row, image: source.pointer, first: 0, count: 64, kind: ESP_OUT_U8,
                into: want.pointer, pitch: outputs)
            for isa in ISA.available {
                let x = Guarded<UInt8>(0, count: inputs * 64)
                let scratch = Guarded<UInt8>(0, count: layer.scratchBytes)
                let y = Guarded<UInt8>(0, count: outputs * 64)
                let got = Guarded<UInt8>(0, count: outputs * 64)
                unsafe kernels(isa).u8_to_block(source.pointer, inputs, 64, inputs, x.pointer)
                unsafe layer.multiply(
                    kernels(isa), x.pointer, scratch: scratch.pointer, into: y.pointer)
                _ = scratch.values
                _ = y.values
                unsafe kernels(isa).u8_from_block(y.pointer, 64, outputs, got.pointer, outputs)
                if got.values != want.values {
                    Issue.record("\(block) \(outputs)x\(inputs), density \(density) on \(isa)")
                }
            }
        }
    }
}
