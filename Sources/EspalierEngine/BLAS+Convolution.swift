import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

/// A convolution of given shapes as products of column tiles with weights.
struct ConvolutionPlan {
    let images: Int
    let outputs: Int
    let outputShape: Shape
    let weightCount: Int
    let tilesPerImage: Int
    private let window: esp_window
    private let groups: Int
    private let pixels: Int
    private let imageSize: Int
    private let depth: Int
    private let tileExtent: Int
    private let isPointwise: Bool

    init(_ op: Op.Conv2D, x: Shape, weight: Shape) {
        let window = op.window(weight: weight)
        guard let out = window.positions(over: Size2D(x[1], x[2])) else {
            fatalError("conv2d: kernel \(weight) over image \(x)")
        }
        images = x[0]
        outputs = weight[0]
        outputShape = [x[0], out.height, out.width, weight[0]]
        weightCount = weight.elementCount
        groups = op.groups
        pixels = out.height * out.width
        imageSize = x[1] * x[2] * x[3]
        depth = weight[1] * weight[2] * weight[3]
        self.window = esp_window(window, image: x, channels: weight[3], output: out)
        isPointwise =
            window.kernel == Size2D(1) && window.stride == Size2D(1)
            && window.padding == Padding2D(Size2D(0)) && groups == 1
        // 256 KiB of columns, in even tiles.
        let fitting = max(65_536 / max(depth, 1), 16)
        tilesPerImage = max((pixels + fitting - 1) / fitting, 1)
        tileExtent = (pixels + tilesPerImage - 1) / tilesPerImage
    }

    /// The output pixels of a tile.
    func tile(_ index: Int) -> Range<Int> {
        min(index * tileExtent, pixels)..<min((index + 1) * tileExtent, pixels)
    }

    /// Where an output pixel's channels begin.
    func outputOffset(_ image: Int, _ pixel: Int) -> Int { (image * pixels + pixel) * outputs }

    func forwardTile(
        image: Int, pixels: Range<Int>, x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
        y: UnsafeMutablePointer<Float>
    ) {
        let size = outputs / groups
        for group in 0..<groups {
            unsafe withColumns(of: x + image * imageSize, group, pixels) { columns in
                unsafe BLAS.multiply(
                    BLAS.Operand(columns, pitch: depth),
                    BLAS.Operand(weight + group * size * depth, pitch: depth, transposed: true),
                    into: y + outputOffset(image, pixels.lowerBound) + group * size, pitch: outputs,
                    rows: pixels.count, columns: size, depth: depth)
            }
        }
    }

    func backward(
        image: Int, x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
        dy: UnsafePointer<Float>, dx: UnsafeMutablePointer<Float>?,
        dw: UnsafeMutablePointer<Float>?
    ) {
        let size = outputs / groups
        for index in 0..<tilesPerImage {
            let pixels = tile(index)
            for group in 0..<groups {
                let dy = unsafe dy + outputOffset(image, pixels.lowerBound) + group * size
                if let dw = unsafe dw {
                    unsafe withColumns(of: x + image * imageSize, group, pixels) { columns in
                        unsafe BLAS.multiply(
                            BLAS.Operand(dy, pitch: outputs, transposed: true),
                            BLAS.Operand(columns, pitch: depth),
                            into: dw + group * size * depth, pitch: depth,
                            rows: size, columns: depth, depth: pixels.count, accumulates: true)
                    }
                }
                if let dx = unsafe dx {
                    unsafe addInputGradient(
                        dy, weight + group * size * depth, group, pixels,
                        to: dx + image * imageSize)
                }
            }
        }
    }

    private func addInputGradient(
        _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ group: Int,
        _ pixels: Range<Int>, to image: UnsafeMutablePointer<Float>
    ) {
        let size = outputs / groups
        if isPointwise {
            unsafe BLAS.multiply(
                BLAS.Operand(dy, pitch: outputs), BLAS.Operand(weight, pitch: depth),
                into: image + pixels.lowerBound * depth, pitch: depth,
                rows: pixels.count, columns: depth, depth: size)
            return
        }
        unsafe withScratch(pixels.count * depth) { columns in
            unsafe BLAS.multiply(
                BLAS.Operand(dy, pitch: outputs), BLAS.Operand(weight, pitch: depth),
                into: columns, pitch: depth, rows: pixels.count, columns: depth, depth: size)
            unsafe Kernels.col2im(
                window, columns: columns, first: pixels.lowerBound, count: pixels.count,
                image: image + group * Int(window.channels))
        }
    }

    private func withColumns(
        of image: UnsafePointer<Float>, _ group: Int, _ pixels: Range<Int>,
        _ body: (UnsafePointer<Float>) -> Void
    ) {
        if isPointwise { return unsafe body(image + pixels.lowerBound * depth) }
        unsafe withScratch(pixels.count * depth) { columns in
            unsafe Kernels.im2col(
                window, image: image + group * Int(window.channels), first: pixels.lowerBound,
                count: pixels.count, columns: columns)
            unsafe body(columns)
        }
    }

    private func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
        _ = unsafe Tensor([count]) { unsafe body($0) }
    }
}
