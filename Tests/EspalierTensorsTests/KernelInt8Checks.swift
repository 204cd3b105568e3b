import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// Random codes, the same for the same arguments; extremes are frequent, so that saturation would show.
func codes(_ count: Int, _ salt: UInt64) -> [UInt8] {
    RandomStream(seed: salt).words(count).map { $0 % 5 == 0 ? 255 : UInt8($0 >> 8 & 255) }
}

func int8Weights(_ count: Int, _ salt: UInt64, density: Double = 1) -> [Int8] {
    RandomStream(seed: salt).words(count).map { word in
        if Double(word & 0xFFFF) / 65_536 > density { return 0 }
        return word % 7 == 0 ? -127 : word % 7 == 1 ? 127 : Int8(truncatingIfNeeded: word >> 16 | 1)
    }
}

func int8Requantization(_ outputs: Int, depth: Int, _ salt: UInt64) -> Requantization {
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
            (1, 13, 300, 33, 1), (5, 5, 16, 16, 2), (9, 1, 20, 130, 3), (8, 8, 1, 32, 3),
            (6, 9, 3, 10, 3), (7, 4, 7, 84, 2),
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
    "u8_pad": {
        for w in windows {
            let reach = { (extent: Int32, stride: Int32, kernel: Int32, dilation: Int32) in
                Int((extent - 1) * stride + (kernel - 1) * dilation + 1)
            }
            let height = reach(w.out_height, w.stride_y, w.kernel_height, w.dilation_y)
            let width = reach(w.out_width, w.stride_x, w.kernel_width, w.dilation_x)
            let image = codes(w.imageCount, 3)
            let channels = Int(w.channels)
            let want = (0..<height * width * channels).map { at in
                let (y, x) = (
                    at / channels / width - Int(w.pad_top), at / channels % width - Int(w.pad_left)
                )
                let inside = y >= 0 && y < w.height && x >= 0 && x < w.width
                return inside
                    ? image[(y * Int(w.width) + x) * Int(w.pitch) + at % channels] : 200
            }
            for isa in ISA.available {
                let (source, y) = (Guarded(image), Guarded<UInt8>(7, count: want.count))
                unsafe withUnsafePointer(to: w) {
                    unsafe kernels(isa).u8_pad($0, source.pointer, 200, y.pointer)
                }
                if y.values != want { Issue.record("padding of \(w.text) on \(isa)") }
            }
        }
    },
]

// Against a triple loop over the weights as they were before packing.
private func checkDense(_ window: esp_window, outputs: Int, salt: UInt64) {
    let channels = Int(window.channels)
    let taps = Int(window.kernel_height * window.kernel_width)
    let pixels = Int(window.out_height * window.out_width)
    // The last pixel's channels are read in fours.
    let image = codes(Int(window.height * window.width) * Int(window.pitch) + 3, salt)
    let matrix = int8Weights(outputs * taps * channels, salt + 50)
    let zero = UInt8(salt * 11 % 256)
    let table = int8Requantization(outputs, depth: taps * channels * 60, salt)
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
    let rows = DenseConvolution(window)
    #expect(rows != nil || window.pitch != window.channels)
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
        if let rows {
            let layer = DenseInt8(
                matrix, outputs: outputs, taps: rows.taps, channels: rows.channels,
                inputZeroPoint: zero, table)
            let scratch = Guarded<UInt8>(9, count: rows.scratchBytes)
            let y = Guarded<UInt8>(7, count: pixels * pitch - 3)
            unsafe rows.multiply(
                kernels(isa), layer, image: source.pointer, scratch: scratch.pointer,
                kind: ESP_OUT_U8, into: y.pointer, pitch: pitch)
            if y.values != codes { Issue.record("rows of \(window.text) on \(isa)") }
        }
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
