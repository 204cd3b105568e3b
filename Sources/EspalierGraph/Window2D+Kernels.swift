package import CEspalierKernels
package import EspalierTensors

extension esp_window {
    /// A window over images [N, H, W, C] of which `channels` take part.
    package init(_ window: Window2D, image: Shape, channels: Int, output: Size2D) {
        self.init(
            height: Int32(image[1]), width: Int32(image[2]), channels: Int32(channels),
            pitch: Int32(image[3]), out_height: Int32(output.height),
            out_width: Int32(output.width), kernel_height: Int32(window.kernel.height),
            kernel_width: Int32(window.kernel.width), stride_y: Int32(window.stride.height),
            stride_x: Int32(window.stride.width), pad_top: Int32(window.padding.top),
            pad_left: Int32(window.padding.left), dilation_y: Int32(window.dilation.height),
            dilation_x: Int32(window.dilation.width))
    }

    /// A window over all channels of images [N, H, W, C].
    package init(_ window: Window2D, image: Shape) {
        guard let output = window.positions(over: Size2D(image[1], image[2])) else {
            fatalError("a window of \(window.kernel) over image \(image)")
        }
        self.init(window, image: image, channels: image[3], output: output)
    }
}

extension Op.AveragePool2D {
    /// One over the size of each window: the part inside the image, or inside image and padding.
    package func factors(over image: Shape) -> [Float] {
        guard let out = window.positions(over: Size2D(image[1], image[2])) else { return [] }
        let rows = (0..<out.height).map {
            extent(
                $0, window.stride.height, window.padding.top, window.padding.bottom,
                window.kernel.height, image[1])
        }
        let columns = (0..<out.width).map {
            extent(
                $0, window.stride.width, window.padding.left, window.padding.right,
                window.kernel.width, image[2])
        }
        return rows.flatMap { row in columns.map { 1 / Float(row * $0) } }
    }

    private func extent(
        _ position: Int, _ stride: Int, _ before: Int, _ after: Int, _ kernel: Int, _ size: Int
    ) -> Int {
        let start = position * stride - before
        let end = min(start + kernel, size + (countsPadding ? after : 0))
        return max(end - (countsPadding ? start : max(start, 0)), 1)
    }
}
