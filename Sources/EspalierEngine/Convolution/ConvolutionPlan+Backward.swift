import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

extension ConvolutionPlan {
    /// What the backward pass reads.
    struct Upstream {
        /// The gradient of the op's result.
        let dy: Tensor
        /// With ReLU the op's result, with pooling which pixel of each window it is.
        let result: Tensor?
    }

    /// Which gradients are asked for.
    struct Needs {
        let x: Bool
        let weight: Bool
        let bias: Bool
    }

    // Images are dealt to parts whose number depends on the shape alone. A part owns its images' dX and its own sums of
    // dW and of the bias's gradient, which are added in order. One image's upstream is in the cache for all three.
    func gradients(
        _ x: Tensor, _ weight: Tensor, _ upstream: Upstream, rounded: Upstream?, _ needs: Needs
    ) -> (dx: Tensor?, dw: Tensor?, db: Tensor?) {
        // At least 512 pixels a part, or its sums would cost as much as their terms; but not fewer than four parts.
        let parts = min(images, 16, max(images * out.height * out.width / 512, 4))
        let inputShape = needs.x ? inputWinograd() : nil
        let weightShape = needs.weight ? winograd() : nil
        let inputParts = needs.x && inputShape == nil ? self.inputParts : []
        let filters =
            if inputShape != nil {
                PackedFilters(winograd: weight, inputSource((0..<taps).reversed())).panels
            } else {
                inputFilters(weight, inputParts)
            }
        var dx = unsafe Tensor(needs.x ? x.shape : [0]) { _ in }
        let weightCount = needs.weight ? weight.count : 0
        var sums = Tensor.zeros([parts, weightCount])
        var biases = Tensor.zeros([parts, needs.bias ? outputs : 0])
        unsafe dx.writing { dx in
            unsafe sums.writing { sums in
                unsafe biases.writing { biases in
                    unsafe reading(x, filters) { x, filters in
                        ThreadPool.shared.forEachChunk(parts) { part in
                            let images = images * part / parts..<images * (part + 1) / parts
                            let work = unsafe PartGradients(
                                plan: self, images: images, x: x, filters: filters,
                                inputShape: inputShape, weightShape: weightShape,
                                inputParts: inputParts, dx: needs.x ? dx : nil,
                                dw: needs.weight ? sums + part * weightCount : nil,
                                db: needs.bias ? biases + part * outputs : nil)
                            unsafe work.run(upstream, rounded: rounded)
                        }
                    }
                }
            }
        }
        return (
            needs.x ? dx : nil, needs.weight ? weightGradient(sums, shape: weight.shape) : nil,
            needs.bias ? Kernels.columnSums(biases) : nil
        )
    }

    // The parts' sums, [groups][taps][depth][width] each, as a gradient of the weight's shape.
    private func weightGradient(_ sums: Tensor, shape: Shape) -> Tensor {
        let (parts, rows) = (sums.shape[0], taps * depth)
        let kernels = unsafe KernelTable.current
        var sums = sums
        guard parts > 0 else { return .zeros(shape) }
        return unsafe Tensor(shape) { dw in
            unsafe sums.writing { sums in
                let grain = max(4_096 / max(width, 1), 1)
                let chunks = (rows + grain - 1) / grain
                ThreadPool.shared.forEachChunk(groups * chunks) { chunk in
                    let (group, first) = (chunk / chunks, chunk % chunks * grain)
                    let count = min(grain, rows - first)
                    let at = (group * rows + first) * width
                    let total = unsafe sums + at
                    for part in 1..<max(parts, 1) {
                        unsafe kernels.f32_add(
                            total, sums + part * shape.elementCount + at, total, count * width)
                    }
                    unsafe kernels.f32_strided_copy(
                        2, [Int64(width), Int64(count)], [1, Int64(width)], [Int64(rows), 1], total,
                        dw + group * width * rows + first)
                }
            }
        }
    }
}

/// The gradients that some images give.
@unsafe private struct PartGradients {
    let plan: ConvolutionPlan
    let images: Range<Int>
    let x: UnsafePointer<Float>
    let filters: UnsafePointer<Float>
    let inputShape: WinogradShape?
    let weightShape: WinogradShape?
    let inputParts: [ConvolutionPlan.InputPart]
    let dx: UnsafeMutablePointer<Float>?
    let dw: UnsafeMutablePointer<Float>?
    let db: UnsafeMutablePointer<Float>?

    func run(_ upstream: ConvolutionPlan.Upstream, rounded: ConvolutionPlan.Upstream?) {
        let plan = unsafe plan
        let isCopied = plan.op.activation != .none
        let direct = unsafe max(
            weightShape == nil && dw != nil ? plan.direct.scratchCount : 0,
            inputParts.map(\.convolution.scratchCount).max() ?? 0)
        let (dxShape, dwShape) = unsafe (inputShape, weightShape)
        unsafe withScratch([
            isCopied ? plan.outCount : 0, direct, dxShape?.operandCount ?? 0,
            dxShape?.resultCount ?? 0, dxShape?.regionCount ?? 0, dwShape?.operandCount ?? 0,
            dwShape?.resultCount ?? 0, dwShape?.regionCount ?? 0,
            dwShape.map { 16 * $0.channels * $0.outputs } ?? 0,
        ]) { scratch in
            var inputs = unsafe dxShape.map {
                unsafe WinogradForward(
                    $0, filters: filters, bias: nil, relu: false, v: scratch[2], m: scratch[3],
                    region: scratch[4])
            }
            var weights = unsafe dwShape.map {
                unsafe WinogradWeightGradient(
                    $0, v: scratch[5], u: scratch[6], region: scratch[7], sums: scratch[8])
            }
            if let dwShape {
                unsafe scratch[8].update(
                    repeating: 0, count: 16 * dwShape.channels * dwShape.outputs)
            }
            // What no window covers has no gradient.
            if plan.op.activation == .pooledReLU {
                unsafe scratch[0].update(repeating: 0, count: plan.outCount)
            }
            for image in unsafe images {
                unsafe withUpstream(upstream, image, scratch[0]) { dy in
                    if let db = unsafe db {
                        unsafe KernelTable.current.f32_column_sums(
                            dy, plan.out.height * plan.out.width, plan.outputs, db)
                    }
                    if rounded == nil {
                        unsafe add(image, dy, &inputs, &weights, scratch[1])
                    }
                }
                if let rounded {
                    unsafe withUpstream(rounded, image, scratch[0]) { dy in
                        unsafe add(image, dy, &inputs, &weights, scratch[1])
                    }
                }
            }
            unsafe inputs?.flush(target: { unsafe place($0, $1) }, done: { _, _ in })
            unsafe weights?.flush()
            if let dw = unsafe dw, let dwShape {
                unsafe KernelTable.current.f32_winograd_weights_gradient(
                    scratch[8], dwShape.channels * dwShape.outputs, dw)
            }
        }
    }

    // The gradient of an image of the convolution's result, before activation and pooling.
    private func withUpstream(
        _ upstream: ConvolutionPlan.Upstream, _ image: Int, _ scratch: UnsafeMutablePointer<Float>,
        _ body: (UnsafePointer<Float>) -> Void
    ) {
        let plan = unsafe plan
        let at = image * plan.resultCount
        let kernels = unsafe KernelTable.current
        unsafe upstream.dy.reading { dy in
            guard let result = upstream.result else { return unsafe body(dy + at) }
            unsafe result.reading { result in
                if plan.op.activation == .relu {
                    unsafe kernels.f32_relu_gradient(result + at, dy + at, scratch, plan.outCount)
                } else {
                    let line = plan.out.width * plan.outputs
                    let windows = plan.out.width / 2
                    let which = unsafe UnsafeRawPointer(result).assumingMemoryBound(to: UInt8.self)
                    for row in 0..<plan.out.height / 2 {
                        let from = at + row * windows * plan.outputs
                        unsafe kernels.f32_relu_pool2_gradient(
                            which + from, dy + from, line, windows, plan.outputs,
                            scratch + 2 * row * line)
                    }
                }
                unsafe body(scratch)
            }
        }
    }

    private func add(
        _ image: Int, _ dy: UnsafePointer<Float>, _ inputs: inout WinogradForward?,
        _ weights: inout WinogradWeightGradient?, _ scratch: UnsafeMutablePointer<Float>
    ) {
        let plan = unsafe plan
        let line = plan.out.width * plan.outputs
        let source = unsafe x + image * plan.imageCount
        if unsafe weights != nil {
            unsafe weights?.add(source, upstream: dy)
        } else if let dw = unsafe dw {
            let direct = plan.direct
            for group in 0..<plan.groups {
                unsafe direct.addWeightGradient(
                    source + group * direct.channels, upstream: dy + group * plan.width,
                    outDown: line, outRight: plan.outputs, scratch: scratch,
                    to: dw + group * plan.taps * plan.depth * plan.width)
            }
        }
        guard let dx = unsafe dx else { return }
        if unsafe inputs != nil {
            unsafe inputs?.add(
                dy, image: image, target: { unsafe place($0, $1) }, done: { _, _ in })
            return
        }
        var filters = unsafe filters
        let (down, right) = (plan.image.width * plan.inputs, plan.inputs)
        for part in unsafe inputParts {
            let first =
                unsafe dx + image * plan.imageCount + part.first.height * down
                + part.first.width * right
            for group in 0..<plan.groups {
                unsafe part.convolution.forward(
                    dy + group * part.convolution.channels, weights: filters, bias: nil,
                    relu: false, scratch: scratch, into: first + group * part.convolution.outputs,
                    outDown: plan.op.stride.height * down, outRight: plan.op.stride.width * right)
                unsafe filters += plan.inputFilterCount(part)
            }
        }
    }

    private func place(_ image: Int, _ row: Int) -> UnsafeMutablePointer<Float> {
        guard let dx = unsafe dx else { fatalError("no input gradient") }
        return unsafe dx + image * plan.imageCount + 2 * row * plan.image.width * plan.inputs
    }
}
