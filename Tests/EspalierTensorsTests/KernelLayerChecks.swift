import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// The dense float layer, written down from its definition.
private func denseFloat(
    _ w: esp_window, _ image: [Float], _ weights: [Float], bias: [Float], relu: Bool
) -> [Float] {
    let (channels, taps) = (Int(w.channels), Int(w.kernel_height * w.kernel_width))
    return (0..<w.pixels).flatMap { pixel in
        bias.indices.map { output in
            var sum = bias[output]
            for tap in 0..<taps {
                let (ky, kx) = (tap / Int(w.kernel_width), tap % Int(w.kernel_width))
                let y =
                    pixel / Int(w.out_width) * Int(w.stride_y) - Int(w.pad_top)
                    + ky * Int(w.dilation_y)
                let x =
                    pixel % Int(w.out_width) * Int(w.stride_x) - Int(w.pad_left)
                    + kx * Int(w.dilation_x)
                let inside = y >= 0 && y < w.height && x >= 0 && x < w.width
                for channel in 0..<channels {
                    let at = (y * Int(w.width) + x) * Int(w.pitch) + channel
                    sum.addProduct(
                        inside ? image[at] : 0, weights[(output * taps + tap) * channels + channel])
                }
            }
            return relu && sum <= 0 ? 0 : sum
        }
    }
}

/// Bit for bit the same on every ISA, in one call or in parts; the space between rows stays as it was.
private func checkDenseFloat(_ w: esp_window, outputs: Int, relu: Bool, special: Bool = false) {
    let image = special ? mixedNumbers(w.imageCount) : numbers(w.imageCount)
    let weights = numbers(outputs * w.depth, 1)
    let bias = special ? mixedNumbers(outputs, 2) : numbers(outputs, 2)
    let layer = DenseFloat(
        weights, bias: bias, outputs: outputs,
        taps: Int(w.kernel_height * w.kernel_width), channels: Int(w.channels), relu: relu)
    let want = denseFloat(w, image, weights, bias: bias, relu: relu)
    let pitch = outputs + 3
    for isa in ISA.available {
        for cuts in [[0, w.pixels], [0, w.pixels / 3, w.pixels / 3, w.pixels]] {
            let source = Guarded(image)
            let y = Guarded<Float>(7, count: max(w.pixels * pitch - 3, 0))
            for (first, end) in zip(cuts, cuts.dropFirst()) {
                unsafe layer.multiply(
                    kernels(isa), w, image: source.pointer, first: first, count: end - first,
                    into: y.pointer + first * pitch, pitch: pitch)
            }
            let got = y.values
            let wrong = want.indices.first { index in
                let value = got[index / outputs * pitch + index % outputs]
                return value.bitPattern != want[index].bitPattern
                    && !(value.isNaN && want[index].isNaN)
            }
            let gap = got.indices.first { $0 % pitch >= outputs && got[$0] != 7 }
            if wrong != nil || gap != nil {
                Issue.record(
                    "f32_dense \(w.text) to \(outputs) on \(isa) at \(wrong ?? -1), \(gap ?? -1)")
            }
        }
    }
}

let layerKernelChecks: [String: KernelCheck] = [
    "f32_dense": {
        for (index, w) in windows.enumerated() {
            checkDenseFloat(
                w, outputs: [1, 16, 17, 64, 65, 130][index % 6], relu: index % 2 == 0,
                special: index % 4 == 1 || index % 4 == 2)
        }
        for (rows, inputs, outputs) in [
            (1, 5, 70), (2, 64, 64), (3, 0, 5), (6, 33, 128), (8, 100, 10), (13, 7, 1),
            (29, 384, 100), (0, 8, 8), (90, 1600, 20), (600, 3, 65),
        ] {
            checkDenseFloat(
                esp_window.linear(rows: rows, channels: inputs), outputs: outputs,
                relu: rows % 2 == 0)
        }
        // As many taps as there may be.
        var w = esp_window.linear(rows: 20, channels: 1)
        (w.height, w.kernel_height, w.kernel_width) = (20, 16, 16)
        (w.out_height, w.out_width) = (5, 5)
        checkDenseFloat(w, outputs: 3, relu: false)
    },
    "u8_max_pool": {
        for w in windows + [70, 200].map({ esp_window.linear(rows: 3, channels: $0) }) {
            let words = RandomStream(seed: 12).words(w.imageCount)
            let image = words.map { UInt8($0 & 255) }
            let pitch = Int(w.channels) + 2
            unsafe expectTwins("max pool of codes \(w.text)") { c in
                let source = Guarded(image)
                let y = Guarded<UInt8>(7, count: w.pixels * pitch - 2)
                unsafe Kernels.maxPool(c, w, image: source.pointer, into: y.pointer, pitch: pitch)
                return y.values.map { Float($0) }
            }
            // Against the pooling of floats; -infinity where a window covers nothing.
            // Each has a name, or it would be gone before the kernel reads it.
            let (codes, floats) = (Guarded(image), Guarded(image.map { Float($0) }))
            let (y, z) = (
                Guarded<UInt8>(0, count: w.outputs), Guarded<Float>(0, count: w.outputs)
            )
            unsafe Kernels.maxPool(
                kernels(.scalar), w, image: codes.pointer, into: y.pointer,
                pitch: Int(w.channels))
            unsafe Kernels.maxPool(
                kernels(.scalar), w, image: floats.pointer, into: z.pointer)
            #expect(y.values == z.values.map { UInt8(max($0, 0)) })
        }
    },
]
