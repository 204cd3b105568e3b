import CEspalierKernels
import EspalierGraph
import EspalierTensors

/// How a convolution of given shapes is computed.
///
/// Direct: each sum in registers, operands read where they are (`TapConvolution`). Winograd's F(2x2, 3x3) for training, where
/// it takes less time; its sums are rounded otherwise, so that evaluation, which is compared with the runtime, is direct.
struct ConvolutionPlan {
    let op: Op.Conv2D
    let images: Int
    let image: Size2D
    let inputs: Int
    let kernel: Size2D
    let outputs: Int
    /// Of the convolution, before pooling.
    let out: Size2D

    init(_ op: Op.Conv2D, x: Shape, weight: Shape) {
        self.op = op
        (images, image, inputs) = (x[0], Size2D(x[1], x[2]), x[3])
        (outputs, kernel) = (weight[0], Size2D(weight[1], weight[2]))
        guard let out = op.window(weight: weight).positions(over: image) else {
            fatalError("conv2d: kernel \(weight) over image \(x)")
        }
        self.out = out
    }

    var isDepthwise: Bool { op.groups > 1 && op.groups == inputs && inputs == outputs }
    /// Groups that are computed one after another: a depthwise convolution is computed as one.
    var groups: Int { isDepthwise ? 1 : op.groups }
    var taps: Int { kernel.height * kernel.width }
    /// Inputs of an output, and outputs of a group.
    var depth: Int { isDepthwise ? 1 : inputs / op.groups }
    var width: Int { outputs / groups }
    var imageCount: Int { image.height * image.width * inputs }
    /// Floats of the convolution's result before pooling, and of the op's result, of one image.
    var outCount: Int { out.height * out.width * outputs }
    var resultCount: Int {
        op.activation == .pooledReLU ? out.height / 2 * (out.width / 2) * outputs : outCount
    }
    var resultShape: Shape {
        op.activation == .pooledReLU
            ? [images, out.height / 2, out.width / 2, outputs]
            : [images, out.height, out.width, outputs]
    }

    // MARK: - Direct

    /// The convolution of one group.
    var direct: TapConvolution {
        TapConvolution(
            vertical: TapAxis(
                start: -op.padding.top, step: op.stride.height, count: out.height,
                taps: kernel.height, spacing: op.dilation.height),
            horizontal: TapAxis(
                start: -op.padding.left, step: op.stride.width, count: out.width,
                taps: kernel.width, spacing: op.dilation.width),
            image: image, pitch: inputs, channels: isDepthwise ? inputs : inputs / op.groups,
            outputs: width, isDepthwise: isDepthwise)
    }

    /// Packed weights of each group.
    func filters(_ weight: Tensor) -> Tensor {
        if isDepthwise { return turned(weight, rows: outputs, columns: taps) }
        return PackedFilters(weight, (0..<groups).map { source(group: $0) }).panels
    }

    func source(group: Int = 0) -> PackedFilters.Source {
        PackedFilters.Source(
            taps: (0..<taps).map { $0 * depth }, depth: depth, depthStep: 1, outputs: width,
            outputStep: taps * depth, offset: group * width * taps * depth)
    }

    /// Floats of a group's packed weights.
    var filterCount: Int { taps * depth * PackedFilters.paddedWidth(width) }

    // MARK: - Input gradient

    /// The input gradient of those pixels that the same taps reach: a convolution of the upstream with the taps turned
    /// round. With a stride there are as many kinds of pixels.
    struct InputPart {
        let convolution: TapConvolution
        /// The first pixel.
        let first: Size2D
        /// Numbers of the taps, row by row.
        let taps: [Int]
    }

    var inputParts: [InputPart] {
        let rows = ConvolutionPlan.kinds(
            kernel.height, op.stride.height, op.dilation.height, op.padding.top, image.height)
        let columns = ConvolutionPlan.kinds(
            kernel.width, op.stride.width, op.dilation.width, op.padding.left, image.width)
        return rows.flatMap { row in
            columns.map { column in
                InputPart(
                    convolution: TapConvolution(
                        vertical: row.axis, horizontal: column.axis, image: out, pitch: outputs,
                        channels: isDepthwise ? outputs : width,
                        outputs: isDepthwise ? inputs : depth, isDepthwise: isDepthwise),
                    first: Size2D(row.first, column.first),
                    taps: row.taps.flatMap { y in column.taps.map { y * kernel.width + $0 } })
            }
        }
    }

    // Input i is under tap k of output o where i + padding = stride o + dilation k. With i + padding = stride j + r, taps
    // are those with dilation k = r modulo the stride, o = j - q - m spacing for the m-th of them.
    private static func kinds(
        _ kernel: Int, _ stride: Int, _ dilation: Int, _ padding: Int, _ extent: Int
    ) -> [(axis: TapAxis, first: Int, taps: [Int])] {
        (0..<stride).compactMap { r in
            let j = (padding - r + stride - 1) / stride
            let first = stride * j + r - padding
            guard first < extent else { return nil }
            let count = (extent - 1 - first) / stride + 1
            let taps = (0..<kernel).filter { dilation * $0 % stride == r }
            guard let nearest = taps.first else {
                return (TapAxis(start: 0, count: count, taps: 0), first, [])
            }
            let q = (dilation * nearest - r) / stride
            let spacing = taps.count > 1 ? dilation * (taps[1] - nearest) / stride : 1
            let axis = TapAxis(
                start: j - q - (taps.count - 1) * spacing, count: count, taps: taps.count,
                spacing: spacing)
            return (axis, first, taps.reversed())
        }
    }

    /// Packed weights of the input gradient: of each part, those of each group.
    func inputFilters(_ weight: Tensor, _ parts: [InputPart]) -> Tensor {
        if isDepthwise {
            let turned = turned(weight, rows: outputs, columns: taps).elements
            let rows = parts.flatMap {
                $0.taps.flatMap { turned[$0 * outputs..<($0 + 1) * outputs] }
            }
            return Tensor(rows, shape: [rows.count])
        }
        return PackedFilters(
            weight, parts.flatMap { part in (0..<groups).map { inputSource(part.taps, group: $0) } }
        ).panels
    }

    func inputSource(_ taps: [Int], group: Int = 0) -> PackedFilters.Source {
        PackedFilters.Source(
            taps: taps.map { $0 * depth }, depth: width, depthStep: self.taps * depth,
            outputs: depth, outputStep: 1, offset: group * width * self.taps * depth)
    }

    /// Floats of a part's packed weights in a group.
    func inputFilterCount(_ part: InputPart) -> Int {
        part.taps.count * (isDepthwise ? outputs : width * PackedFilters.paddedWidth(depth))
    }

    // [rows][columns] -> [columns][rows]
    private func turned(_ x: Tensor, rows: Int, columns: Int) -> Tensor {
        let from = x.elements
        return Tensor(
            (0..<rows * columns).map { from[$0 % rows * columns + $0 / rows] },
            shape: [columns, rows])
    }

    // MARK: - Winograd

    /// The forward as a Winograd convolution; nil where it is not one of 3x3 taps side by side, or not faster.
    func winograd() -> WinogradShape? {
        winograd(
            WinogradShape(
                image: image, top: -op.padding.top, left: -op.padding.left, channels: inputs,
                outputs: outputs, out: out))
    }

    /// The input gradient likewise: a convolution of the upstream.
    func inputWinograd() -> WinogradShape? {
        winograd(
            WinogradShape(
                image: out, top: op.padding.top - 2, left: op.padding.left - 2, channels: outputs,
                outputs: inputs, out: image))
    }

    // Nanoseconds on one core with AVX-512, of a tile and blocks of sixteen channels; the ratios are alike on others. A
    // tile's 4 x 9 products of such blocks take 107 directly, its 16 take 51, and its transforms 20 and 12 a block. Those
    // of the weights are shared by the batch. With fewer channels vectors would be half empty.
    private func winograd(_ shape: WinogradShape) -> WinogradShape? {
        guard kernel == Size2D(3), op.stride == Size2D(1), op.dilation == Size2D(1), op.groups == 1,
            shape.channels >= 16, shape.outputs >= 16, images > 0, shape.out.height > 0
        else { return nil }
        let blocks = (
            Double((shape.channels + 15) / 16), Double((shape.outputs + 15) / 16)
        )
        let products = blocks.0 * blocks.1
        let tiles = Double(shape.tileRows * shape.tileColumns)
        let pixels = Double(shape.out.height * shape.out.width)
        let transformed =
            tiles * (51 * products + 20 * blocks.0 + 12 * blocks.1) + 240 * products
            / Double(images)
        return transformed < pixels / 4 * 107 * products ? shape : nil
    }
}
