package import CEspalierKernels
package import EspalierTensors

// Pooling over channels-last images, one image a task.
extension Kernels {
    /// The largest of each window. [N, H, W, C] -> [N, OH, OW, C]
    ///
    /// `indices` holds the bits of Int32 pixel numbers, row * width + column, of the first largest.
    package static func maxPool(_ x: Tensor, _ window: esp_window) -> (
        output: Tensor, indices: Tensor
    ) {
        let images = x.shape[0]
        let shape: Shape = [
            images, Int(window.out_height), Int(window.out_width), Int(window.channels),
        ]
        let (inSize, outSize) = (x.count / max(images, 1), shape.elementCount / max(images, 1))
        var output = Tensor.zeros([0])
        let indices = unsafe Tensor(shape) { indices in
            unsafe indices.withMemoryRebound(to: Int32.self, capacity: shape.elementCount) {
                indices in
                output = unsafe Tensor(shape) { y in
                    unsafe x.reading { x in
                        ThreadPool.shared.forEachChunk(images) { n in
                            unsafe withUnsafePointer(to: window) {
                                unsafe c.f32_max_pool(
                                    $0, x + n * inSize, y + n * outSize, indices + n * outSize)
                            }
                        }
                    }
                }
            }
        }
        return (output, indices)
    }

    /// dx of `maxPool`. `shape` is that of its input.
    package static func maxPoolGradient(
        indices: Tensor, upstream dy: Tensor, _ window: esp_window, shape: Shape
    ) -> Tensor {
        unsafe scatter(shape, from: dy) { dx, dy, n, inSize, outSize in
            unsafe indices.reading { indices in
                unsafe indices.withMemoryRebound(to: Int32.self, capacity: (n + 1) * outSize) {
                    indices in
                    unsafe withUnsafePointer(to: window) {
                        unsafe c.f32_max_pool_gradient($0, indices + n * outSize, dy, dx)
                    }
                }
            }
        }
    }

    /// factors[pixel] times the sum of each window. [N, H, W, C] -> [N, OH, OW, C]
    package static func averagePool(_ x: Tensor, _ window: esp_window, factors: [Float]) -> Tensor {
        let images = x.shape[0]
        let shape: Shape = [
            images, Int(window.out_height), Int(window.out_width), Int(window.channels),
        ]
        let (inSize, outSize) = (x.count / max(images, 1), shape.elementCount / max(images, 1))
        return unsafe Tensor(shape) { y in
            unsafe x.reading { x in
                ThreadPool.shared.forEachChunk(images) { n in
                    unsafe withUnsafePointer(to: window) { window in
                        unsafe factors.withUnsafeBufferPointer {
                            unsafe c.f32_avg_pool(
                                window, x + n * inSize, $0.baseAddress, y + n * outSize)
                        }
                    }
                }
            }
        }
    }

    /// dx of `averagePool`. `shape` is that of its input.
    package static func averagePoolGradient(
        upstream dy: Tensor, _ window: esp_window, factors: [Float], shape: Shape
    ) -> Tensor {
        unsafe scatter(shape, from: dy) { dx, dy, _, _, _ in
            unsafe withUnsafePointer(to: window) { window in
                unsafe factors.withUnsafeBufferPointer {
                    unsafe c.f32_avg_pool_gradient(window, $0.baseAddress, dy, dx)
                }
            }
        }
    }

    private static func scatter(
        _ shape: Shape, from dy: Tensor,
        _ kernel: (UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, Int, Int) -> Void
    ) -> Tensor {
        let images = shape[0]
        let (inSize, outSize) = (shape.elementCount / max(images, 1), dy.count / max(images, 1))
        var dx = Tensor.zeros(shape)
        unsafe dx.writing { dx in
            unsafe dy.reading { dy in
                ThreadPool.shared.forEachChunk(images) { n in
                    unsafe kernel(dx + n * inSize, dy + n * outSize, n, inSize, outSize)
                }
            }
        }
        return dx
    }
}

extension Kernels {
    /// The input columns of `count` output pixels from `first` of one image.
    package static func im2col(
        _ window: esp_window, image: UnsafePointer<Float>, first: Int, count: Int,
        columns: UnsafeMutablePointer<Float>
    ) {
        unsafe withUnsafePointer(to: window) {
            unsafe c.f32_im2col($0, image, first, count, columns)
        }
    }

    /// Adds column entries to the pixels of one image.
    package static func col2im(
        _ window: esp_window, columns: UnsafePointer<Float>, first: Int, count: Int,
        image: UnsafeMutablePointer<Float>
    ) {
        unsafe withUnsafePointer(to: window) {
            unsafe c.f32_col2im($0, columns, first, count, image)
        }
    }

    /// Adds a row to each of some rows, on this thread.
    package static func addRow(
        _ row: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, rows: Int, columns: Int
    ) {
        unsafe c.f32_add_row(row, y, rows, columns)
    }
}

// Pooling of one image on this thread, as the runtime plans it.
extension Kernels {
    /// The largest code of each window; y has `pitch` codes a pixel. 0 where a window covers no pixel.
    package static func maxPool(
        _ kernels: esp_kernels, _ window: esp_window, image: UnsafePointer<UInt8>,
        into y: UnsafeMutablePointer<UInt8>, pitch: Int
    ) {
        unsafe withUnsafePointer(to: window) { unsafe kernels.u8_max_pool($0, image, y, pitch) }
    }

    /// The largest of each window, dense: `channels` floats a pixel.
    package static func maxPool(
        _ kernels: esp_kernels, _ window: esp_window, image: UnsafePointer<Float>,
        into y: UnsafeMutablePointer<Float>
    ) {
        unsafe withUnsafePointer(to: window) { unsafe kernels.f32_max_pool($0, image, y, nil) }
    }
}

extension esp_window {
    /// A linear layer over some rows: one tap, an image of one row.
    package static func linear(rows: Int, channels: Int) -> esp_window {
        esp_window(
            height: 1, width: Int32(rows), channels: Int32(channels), pitch: Int32(channels),
            out_height: 1, out_width: Int32(rows), kernel_height: 1, kernel_width: 1, stride_y: 1,
            stride_x: 1, pad_top: 0, pad_left: 0, dilation_y: 1, dilation_x: 1)
    }
}
