import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

let sparseKernelChecks: [String: KernelCheck] = [
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
                        // Filled up with zeros to sixteen tokens; what is behind them is left alone.
                        let want =
                            token < tokens
                            ? rows[token * (inputs + 3) + input]
                            : token < (tokens + 15) / 16 * 16 ? 0 : 9
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
    "u8_to_planes": {
        for (index, w) in windows.enumerated() where w.stride_x == 1 && w.stride_y == 1 {
            let rows = Int(w.out_height + w.dilation_y * (w.kernel_height - 1))
            let columns = Int(w.out_width + w.dilation_x * (w.kernel_width - 1) + w.channels % 3)
            let quads = (Int(w.channels) + 3) / 4
            let images = [1, 16, 3][index % 3]
            let (count, size) = (rows * columns * images, Int(w.height * w.width * w.pitch) + 5)
            let positions = count + 3
            let image = codes((images - 1) * size + w.imageCount, 3)
            var want = [UInt8](repeating: 7, count: quads * positions * 4 - 12)
            for position in 0..<count {
                let y = position / images / columns - Int(w.pad_top)
                let x = position / images % columns - Int(w.pad_left)
                let inside = y >= 0 && y < w.height && x >= 0 && x < w.width
                let start = position % images * size + (y * Int(w.width) + x) * Int(w.pitch)
                for channel in 0..<quads * 4 {
                    want[(channel / 4 * positions + position) * 4 + channel % 4] =
                        inside && channel < w.channels ? image[start + channel] : 200
                }
            }
            for isa in ISA.available {
                let (source, planes) = (Guarded(image), Guarded<UInt8>(7, count: want.count))
                unsafe withUnsafePointer(to: w) {
                    unsafe kernels(isa).u8_to_planes(
                        $0, source.pointer, images, size, 200, columns, positions, planes.pointer)
                }
                if planes.values != want { Issue.record("planes of \(w.text) on \(isa)") }
            }
        }
    },
]

// A convolution over planes against the dense one with the same weights, for one image and for more.
private func checkPlanar(_ block: SparseInt8.Block) {
    var large = esp_window.linear(rows: 40, channels: 64)
    (large.height, large.out_height, large.out_width) = (5, 5, 40)
    (large.kernel_height, large.kernel_width, large.pad_top, large.pad_left) = (3, 3, 1, 1)
    for (index, w) in (windows + [large]).enumerated() {
        let taps = Int(w.kernel_height * w.kernel_width)
        let images = [1, 3, 4, 16, 1, 64][index % 6]
        guard let geometry = PlanarConvolution(w, block: block, images: images) else {
            #expect(w.stride_x != 1 || w.stride_y != 1)
            continue
        }
        let outputs = [4, 8, 36, 64, 100][index % 5]
        let matrix = int8Weights(
            outputs * w.depth, UInt64(index), density: [0.1, 0.5, 1, 0][index % 4])
        let table = int8Requantization(outputs, depth: w.depth * 60, UInt64(index + 1))
        let zero = UInt8(index * 37 % 256)
        let sparse = SparseInt8(
            matrix, outputs: outputs, taps: taps, channels: Int(w.channels), block: block,
            inputZeroPoint: zero, table)
        let channels = sparse.channels
        var wide = w
        (wide.channels, wide.pitch) = (Int32(channels), Int32(channels))
        let dense = DenseInt8(
            matrix, outputs: outputs, taps: taps, channels: Int(w.channels), inputZeroPoint: zero,
            table)
        let imageSize = Int(w.height * w.width) * Int(w.pitch)
        let image = codes((images - 1) * imageSize + w.imageCount, UInt64(index + 5))
        var want: [UInt8] = []
        for n in 0..<images {
            let padded = (0..<Int(w.height * w.width) * channels).map { at in
                let (pixel, channel) = (at / channels, at % channels)
                return channel < w.channels
                    ? image[n * imageSize + pixel * Int(w.pitch) + channel] : 0
            }
            let (source, y) = (Guarded(padded), Guarded<UInt8>(0, count: w.pixels * outputs))
            unsafe dense.multiply(
                kernels(.scalar), wide, image: source.pointer, first: 0, count: w.pixels,
                kind: ESP_OUT_U8, into: y.pointer, pitch: outputs)
            want += y.values
        }
        let pitch = outputs + 5
        for isa in ISA.available {
            let source = Guarded(image)
            let scratch = Guarded<UInt8>(0, count: geometry.scratchBytes(for: sparse))
            let y = Guarded<UInt8>(7, count: images * w.pixels * pitch - 5)
            unsafe geometry.multiply(
                kernels(isa), sparse, image: source.pointer, scratch: scratch.pointer,
                into: y.pointer, pitch: pitch)
            _ = scratch.values
            let got = y.values
            let right = want.indices.allSatisfy {
                got[$0 / outputs * pitch + $0 % outputs] == want[$0]
            }
            let gaps = got.indices.allSatisfy { $0 % pitch < outputs || got[$0] == 7 }
            if !right || !gaps {
                Issue.record("\(block), \(images) images of \(w.text) to \(outputs) on \(isa)")
            }
        }
    }
}

private func checkSparse(_ block: SparseInt8.Block) {
    checkPlanar(block)
    for (index, shape) in [(4, 4), (8, 16), (64, 128), (100, 36), (384, 64), (12, 400)].enumerated()
    {
        let (outputs, inputs) = shape
        for density in [0.0, 0.05, 0.1, 0.5, 1] {
            let salt = UInt64(index * 7 + 1)
            let matrix = int8Weights(outputs * inputs, salt, density: density)
            let table = int8Requantization(outputs, depth: inputs * 60, salt)
            let layer = SparseInt8(
                matrix, outputs: outputs, channels: inputs, block: block, table)
            let dense = DenseInt8(
                matrix, outputs: outputs, taps: 1, channels: inputs, inputZeroPoint: 0, table)
            let rows = codes(64 * inputs, salt + 9)
            // The dense kernel is checked against a plain loop above.
            let row = esp_window.linear(rows: 64, channels: inputs)
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
                // A part of the tokens is a part of the whole.
                let tokens = [1, 16, 17, 32, 50][index % 5]
                let part = Guarded<UInt8>(0, count: tokens * outputs)
                unsafe layer.multiply(
                    kernels(isa), x.pointer, tokens: tokens, scratch: scratch.pointer,
                    into: y.pointer)
                unsafe kernels(isa).u8_from_block(
                    y.pointer, tokens, outputs, part.pointer, outputs)
                #expect(part.values == Array(want.values.prefix(tokens * outputs)))
            }
        }
    }
}
