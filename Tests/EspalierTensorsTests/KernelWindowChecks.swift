import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// Windows of all kinds: strides, dilations, padding beyond the kernel, and channels that are a
/// group of more.
let windows: [esp_window] = {
    var result: [esp_window] = []
    for (index, channels) in [1, 2, 3, 15, 16, 17, 33].enumerated() {
        for (height, width, kernelY, kernelX, strideY, strideX, padY, padX, dilationY, dilationX)
            in [
                (1, 1, 1, 1, 1, 1, 0, 0, 1, 1), (5, 7, 3, 3, 1, 1, 1, 1, 1, 1),
                (7, 5, 2, 3, 2, 1, 0, 1, 1, 2), (6, 6, 1, 1, 2, 2, 0, 0, 1, 1),
                (4, 9, 3, 2, 1, 3, 2, 0, 2, 1), (3, 3, 1, 1, 1, 1, 1, 2, 1, 1),
                (8, 8, 2, 2, 2, 2, 0, 0, 1, 1), (9, 4, 5, 4, 3, 1, 2, 2, 1, 1),
            ]
        {
            let outY = (height + 2 * padY - dilationY * (kernelY - 1) - 1) / strideY + 1
            let outX = (width + 2 * padX - dilationX * (kernelX - 1) - 1) / strideX + 1
            let pitch = channels + [0, 1, 5][(index + height) % 3]
            result.append(
                esp_window(
                    height: Int32(height), width: Int32(width), channels: Int32(channels),
                    pitch: Int32(pitch), out_height: Int32(outY), out_width: Int32(outX),
                    kernel_height: Int32(kernelY), kernel_width: Int32(kernelX),
                    stride_y: Int32(strideY), stride_x: Int32(strideX), pad_top: Int32(padY),
                    pad_left: Int32(padX), dilation_y: Int32(dilationY),
                    dilation_x: Int32(dilationX)))
        }
    }
    return result
}()

extension esp_window {
    var pixels: Int { Int(out_height) * Int(out_width) }
    var outputs: Int { pixels * Int(channels) }
    var depth: Int { Int(kernel_height) * Int(kernel_width) * Int(channels) }

    /// The image's floats: its last pixel ends with the group's channels, so that a step beyond
    /// them shows.
    var imageCount: Int {
        (Int(height) * Int(width) - 1) * Int(pitch) + Int(channels)
    }

    var text: String {
        "\(height)x\(width)x\(channels)/\(pitch), kernel \(kernel_height)x\(kernel_width), "
            + "stride \(stride_y)x\(stride_x), padding \(pad_top)x\(pad_left), "
            + "dilation \(dilation_y)x\(dilation_x)"
    }
}

/// Small whole numbers, so that windows have ties.
private func ties(_ count: Int) -> [Float] {
    RandomStream(seed: 9).integers(count, below: 4).map { Float($0) - 2 }
}

private func maxPool(_ c: esp_kernels, _ w: esp_window, _ image: [Float]) -> (
    y: [Float], index: [Int32]
) {
    let source = Guarded(image)
    let (y, index) = (Guarded<Float>(7, count: w.outputs), Guarded<Int32>(7, count: w.outputs))
    unsafe withUnsafePointer(to: w) {
        unsafe c.f32_max_pool($0, source.pointer, y.pointer, index.pointer)
    }
    return (y.values, index.values)
}

let windowKernelChecks: [String: KernelCheck] = [
    "f32_im2col": {
        for w in windows {
            for range in [0..<w.pixels, w.pixels / 3..<w.pixels, 0..<(w.pixels + 1) / 2] {
                let image = numbers(w.imageCount)
                unsafe expectTwins("im2col \(w.text)") { c in
                    let source = Guarded(image)
                    let columns = Guarded<Float>(7, count: range.count * w.depth)
                    unsafe withUnsafePointer(to: w) {
                        unsafe c.f32_im2col(
                            $0, source.pointer, range.lowerBound, range.count, columns.pointer)
                    }
                    return columns.values
                }
            }
        }
    },
    "f32_col2im": {
        for w in windows {
            for range in [0..<w.pixels, w.pixels / 3..<w.pixels] {
                let (columns, image) = (numbers(range.count * w.depth), numbers(w.imageCount, 1))
                unsafe expectTwins("col2im \(w.text)") { c in
                    let (source, target) = (Guarded(columns), Guarded(image))
                    unsafe withUnsafePointer(to: w) {
                        unsafe c.f32_col2im(
                            $0, source.pointer, range.lowerBound, range.count, target.pointer)
                    }
                    return target.values
                }
            }
        }
    },
    "f32_max_pool": {
        for w in windows {
            for image in [ties(w.imageCount), mixedNumbers(w.imageCount)] {
                let reference = unsafe maxPool(kernels(.scalar), w, image)
                for isa in ISA.available {
                    #expect(
                        unsafe maxPool(kernels(isa), w, image).index == reference.index, "\(w.text)"
                    )
                }
                unsafe expectTwins("max pool \(w.text)") { unsafe maxPool($0, w, image).y }
                unsafe expectTwins("max pool without indices \(w.text)") { c in
                    let (source, y) = (Guarded(image), Guarded<Float>(7, count: w.outputs))
                    unsafe Kernels.maxPool(c, w, image: source.pointer, into: y.pointer)
                    #expect(
                        zip(y.values, unsafe maxPool(kernels(.scalar), w, image).y).allSatisfy {
                            $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN
                        })
                    return y.values
                }
            }
        }
    },
    "f32_max_pool_gradient": {
        for w in windows {
            let index = unsafe maxPool(kernels(.scalar), w, ties(w.imageCount)).index
            let (dy, image) = (numbers(w.outputs), numbers(w.imageCount, 1))
            unsafe expectTwins("max pool gradient \(w.text)") { c in
                let (index, dy, target) = (Guarded(index), Guarded(dy), Guarded(image))
                unsafe withUnsafePointer(to: w) {
                    unsafe c.f32_max_pool_gradient($0, index.pointer, dy.pointer, target.pointer)
                }
                return target.values
            }
        }
    },
    "f32_avg_pool": {
        for w in windows {
            let (image, factors) = (numbers(w.imageCount), numbers(w.pixels, 1))
            unsafe expectTwins("average pool \(w.text)") { c in
                let (source, factors) = (Guarded(image), Guarded(factors))
                let y = Guarded<Float>(7, count: w.outputs)
                unsafe withUnsafePointer(to: w) {
                    unsafe c.f32_avg_pool($0, source.pointer, factors.pointer, y.pointer)
                }
                return y.values
            }
        }
    },
    "f32_avg_pool_gradient": {
        for w in windows {
            let (dy, factors) = (numbers(w.outputs), numbers(w.pixels, 1))
            let image = numbers(w.imageCount, 2)
            unsafe expectTwins("average pool gradient \(w.text)") { c in
                let (dy, factors, target) = (Guarded(dy), Guarded(factors), Guarded(image))
                unsafe withUnsafePointer(to: w) {
                    unsafe c.f32_avg_pool_gradient(
                        $0, factors.pointer, dy.pointer, target.pointer)
                }
                return target.values
            }
        }
    },
]
