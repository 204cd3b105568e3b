import CEspalierKernels
import EspalierGraph
import EspalierTensors

extension ConvolutionPlan {
    /// The result, and of a pooled one which pixel of each window it is, a byte each.
    ///
    /// - Parameter isTraining: Whether it may be rounded as Winograd's is.
    func forward(
        _ x: Tensor, _ weight: Tensor, _ bias: Tensor?, isTraining: Bool
    ) -> (result: Tensor, which: Tensor?) {
        let isPooled = op.activation == .pooledReLU
        var result = unsafe Tensor(resultShape) { _ in }
        var which = unsafe Tensor([isPooled ? (images * resultCount + 3) / 4 : 0]) { _ in }
        unsafe result.writing { y in
            unsafe which.writing { bytes in
                unsafe bytes.withMemoryRebound(to: UInt8.self, capacity: images * resultCount) {
                    which in
                    unsafe x.reading { x in
                        unsafe (bias ?? .zeros([outputs])).reading { bias in
                            let target = unsafe Target(x: x, bias: bias, y: y, which: which)
                            if isTraining, let shape = winograd() {
                                let filters = PackedFilters(winograd: weight, source()).panels
                                unsafe filters.reading {
                                    unsafe forward(shape, filters: $0, target)
                                }
                            } else {
                                unsafe filters(weight).reading {
                                    unsafe forwardDirectly(filters: $0, target)
                                }
                            }
                        }
                    }
                }
            }
        }
        return (result, isPooled ? which : nil)
    }

    @unsafe private struct Target {
        let x: UnsafePointer<Float>
        let bias: UnsafePointer<Float>
        let y: UnsafeMutablePointer<Float>
        let which: UnsafeMutablePointer<UInt8>
    }

    // One image a task, or some of its rows where there are few images.
    private func forwardDirectly(filters: UnsafePointer<Float>, _ target: Target) {
        let isPooled = op.activation == .pooledReLU
        // An even number of rows, so that windows stay whole.
        let bands = images >= 8 ? 1 : min(max(out.height / 4, 1), 8)
        let band = ((out.height + bands - 1) / bands + 1) / 2 * 2
        ThreadPool.shared.forEachChunk(images * bands) { chunk in
            let (image, first) = (chunk / bands, chunk % bands * band)
            let rows = min(first, out.height)..<min(first + band, out.height)
            guard !rows.isEmpty else { return }
            let direct = direct.rows(rows)
            let line = out.width * outputs
            unsafe withScratch([direct.scratchCount, isPooled ? rows.count * line : 0]) { scratch in
                let to =
                    unsafe isPooled
                    ? scratch[1] : target.y + image * outCount + rows.lowerBound * line
                for group in 0..<groups {
                    unsafe direct.forward(
                        target.x + image * imageCount + group * direct.channels,
                        weights: filters + group * filterCount, bias: target.bias + group * width,
                        relu: op.activation == .relu, scratch: scratch[0], into: to + group * width,
                        outDown: line, outRight: outputs)
                }
                if isPooled {
                    for row in 0..<rows.count / 2 {
                        unsafe pool(
                            scratch[1] + 2 * row * line, target, image: image,
                            row: rows.lowerBound / 2 + row)
                    }
                }
            }
        }
    }

    // A task takes as many images as fill the products, but leaves some for others.
    private func forward(
        _ shape: WinogradShape, filters: UnsafePointer<Float>, _ target: Target
    ) {
        let isPooled = op.activation == .pooledReLU
        let group = min(
            max(shape.capacity / (shape.tileRows * shape.tileColumns), 1), max(images / 8, 1))
        ThreadPool.shared.forEachRange(images, grain: group) { images in
            let line = out.width * outputs
            unsafe withScratch([
                shape.operandCount, shape.resultCount, shape.regionCount, isPooled ? 2 * line : 0,
            ]) { scratch in
                var work = unsafe WinogradForward(
                    shape, filters: filters, bias: target.bias, relu: op.activation == .relu,
                    v: scratch[0], m: scratch[1], region: scratch[2])
                func place(_ image: Int, _ row: Int) -> UnsafeMutablePointer<Float> {
                    unsafe isPooled ? scratch[3] : target.y + image * outCount + 2 * row * line
                }
                func pool(_ image: Int, _ row: Int) {
                    guard isPooled, 2 * row + 1 < out.height else { return }
                    unsafe self.pool(scratch[3], target, image: image, row: row)
                }
                for image in images {
                    unsafe work.add(
                        target.x + image * imageCount, image: image, target: place, done: pool)
                }
                unsafe work.flush(target: place, done: pool)
            }
        }
    }

    // Two rows of sums to a row of the result.
    private func pool(_ rows: UnsafePointer<Float>, _ target: Target, image: Int, row: Int) {
        let windows = out.width / 2
        let at = image * resultCount + row * windows * outputs
        unsafe KernelTable.current.f32_relu_pool2(
            rows, out.width * outputs, windows, outputs, target.y + at, target.which + at)
    }
}
