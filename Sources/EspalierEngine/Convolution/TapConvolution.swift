import CEspalierKernels
import EspalierGraph
import EspalierTensors

/// One axis of a convolution: output i reads operands start + i step + k spacing for each tap k.
struct TapAxis: Equatable {
    var start: Int
    var step = 1
    var count: Int
    var taps: Int
    var spacing = 1

    /// The operands from the first one to the last.
    var extent: Int {
        count > 0 && taps > 0 ? (count - 1) * step + (taps - 1) * spacing + 1 : 0
    }

    /// Some of the outputs.
    func outputs(_ range: Range<Int>) -> TapAxis {
        TapAxis(
            start: start + range.lowerBound * step, step: step, count: range.count, taps: taps,
            spacing: spacing)
    }

    func isInside(_ size: Int) -> Bool {
        extent == 0 || (start >= 0 && start + extent <= size)
    }
}

/// A convolution of one image and one group, computed from the image where it stands, or from a copy with its padding where
/// taps leave it.
struct TapConvolution {
    let vertical: TapAxis
    let horizontal: TapAxis
    /// The image that operands are taken from.
    let image: Size2D
    /// Floats from one of its pixels to the next.
    let pitch: Int
    /// Of a pixel's channels, those that take part.
    let channels: Int
    let outputs: Int
    /// Each channel on its own.
    var isDepthwise = false

    /// Whether operands are read in place.
    private var isInside: Bool {
        vertical.isInside(image.height) && horizontal.isInside(image.width)
    }

    /// The floats of the copy that `operands` makes.
    var scratchCount: Int {
        isInside ? 0 : vertical.extent * horizontal.extent * channels
    }

    /// The same for some rows of the output.
    func rows(_ range: Range<Int>) -> TapConvolution {
        TapConvolution(
            vertical: vertical.outputs(range), horizontal: horizontal, image: image, pitch: pitch,
            channels: channels, outputs: outputs, isDepthwise: isDepthwise)
    }

    /// The operands of the first output pixel, copied where they must be.
    func operands(
        _ source: UnsafePointer<Float>, scratch: UnsafeMutablePointer<Float>
    ) -> UnsafePointer<Float> {
        if isInside {
            return unsafe source + (vertical.start * image.width + horizontal.start) * pitch
        }
        let region = ImageRegion(
            top: vertical.start, left: horizontal.start, rows: vertical.extent,
            columns: horizontal.extent)
        unsafe region.copy(
            source, size: image, pitch: pitch, channels: channels, to: scratch)
        return unsafe UnsafePointer(scratch)
    }

    /// What the kernels take; distances of the result in floats.
    func taps(outDown: Int, outRight: Int) -> esp_taps {
        let right = isInside ? pitch : channels
        let down = (isInside ? image.width : horizontal.extent) * right
        // A row of taps side by side is one run.
        let isRun = !isDepthwise && horizontal.spacing == 1 && right == channels
        var taps = esp_taps(
            rows: vertical.count, columns: horizontal.count, down: vertical.step * down,
            right: horizontal.step * right, taps_y: vertical.taps,
            taps_x: isRun ? min(horizontal.taps, 1) : horizontal.taps,
            tap_down: vertical.spacing * down, tap_right: horizontal.spacing * right,
            depth: isDepthwise ? 1 : isRun ? horizontal.taps * channels : channels,
            out_down: outDown, out_right: outRight, outputs: outputs)
        // Rows without a gap are one row.
        if taps.down == taps.columns * taps.right, outDown == taps.columns * outRight {
            taps.columns *= taps.rows
            taps.rows = min(taps.rows, 1)
        }
        return taps
    }

    /// Computes all outputs. Weights as `PackedFilters` has them.
    func forward(
        _ source: UnsafePointer<Float>, weights: UnsafePointer<Float>, bias: UnsafePointer<Float>?,
        relu: Bool, scratch: UnsafeMutablePointer<Float>, into y: UnsafeMutablePointer<Float>,
        outDown: Int, outRight: Int
    ) {
        var taps = taps(outDown: outDown, outRight: outRight)
        let operands = unsafe operands(source, scratch: scratch)
        let kernels = unsafe KernelTable.current
        if isDepthwise {
            unsafe kernels.f32_depthwise(&taps, operands, weights, bias, relu, y)
        } else {
            unsafe kernels.f32_taps(&taps, operands, weights, bias, relu, y)
        }
    }

    /// Adds the weights' gradient, [taps][channels][outputs], or [taps][outputs] where depthwise.
    func addWeightGradient(
        _ source: UnsafePointer<Float>, upstream: UnsafePointer<Float>, outDown: Int, outRight: Int,
        scratch: UnsafeMutablePointer<Float>, to dw: UnsafeMutablePointer<Float>
    ) {
        var taps = taps(outDown: outDown, outRight: outRight)
        let operands = unsafe operands(source, scratch: scratch)
        let kernels = unsafe KernelTable.current
        if isDepthwise {
            unsafe kernels.f32_depthwise_gradient(&taps, operands, upstream, dw)
        } else {
            unsafe kernels.f32_taps_gradient(&taps, operands, upstream, dw)
        }
    }
}

/// Rows and columns of an image that may reach beyond it.
struct ImageRegion {
    let top: Int
    let left: Int
    let rows: Int
    let columns: Int

    /// Copies `channels` of the region's pixels one behind the other, zeros where there is no pixel.
    func copy(
        _ source: UnsafePointer<Float>, size: Size2D, pitch: Int, channels: Int,
        to target: UnsafeMutablePointer<Float>
    ) {
        let first = min(max(-left, 0), columns)
        let last = max(min(size.width - left, columns), first)
        for row in 0..<rows {
            let line = unsafe target + row * columns * channels
            guard (0..<size.height).contains(top + row) else {
                unsafe line.update(repeating: 0, count: columns * channels)
                continue
            }
            unsafe line.update(repeating: 0, count: first * channels)
            let from = unsafe source + ((top + row) * size.width + left + first) * pitch
            if pitch == channels {
                unsafe (line + first * channels).update(
                    from: from, count: (last - first) * channels)
            } else {
                for pixel in 0..<last - first {
                    unsafe (line + (first + pixel) * channels).update(
                        from: from + pixel * pitch, count: channels)
                }
            }
            unsafe (line + last * channels).update(
                repeating: 0, count: (columns - last) * channels)
        }
    }
}

/// Uninitialised floats in several blocks, each at a cache line, while `body` runs.
func withScratch(_ counts: [Int], _ body: ([UnsafeMutablePointer<Float>]) -> Void) {
    let starts = counts.reduce(into: [0]) { $0.append(($0.last ?? 0) + ($1 + 15) / 16 * 16) }
    _ = unsafe Tensor([starts.last ?? 0]) { base in
        unsafe body(counts.indices.map { unsafe base + starts[$0] })
    }
}
