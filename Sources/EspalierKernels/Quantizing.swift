import CEspalierKernels
package import EspalierTensors

// Quantization of whole tensors.
extension Kernels {
    /// Values on the grid of their codes: (code - zero point) scale.
    package static func fakeQuantize(_ x: Tensor, _ parameters: QuantizationParameters) -> Tensor {
        unsafe Tensor(x.shape) { y in
            unsafe x.reading { source in
                forEachRun(of: x, parameters) { q, at, n in
                    unsafe withUnsafePointer(to: q) {
                        unsafe c.f32_fake_quantize($0, source + at, y + at, n)
                    }
                }
            }
        }
    }

    /// dy where the code of x is within the range, else 0 (the straight-through rule).
    package static func fakeQuantizeGradient(
        _ x: Tensor, upstream dy: Tensor, _ parameters: QuantizationParameters
    ) -> Tensor {
        unsafe Tensor(x.shape) { dx in
            unsafe reading(x, dy) { source, dy in
                forEachRun(of: x, parameters) { q, at, n in
                    unsafe withUnsafePointer(to: q) {
                        unsafe c.f32_fake_quantize_gradient($0, source + at, dy + at, dx + at, n)
                    }
                }
            }
        }
    }

    /// The codes of all values.
    package static func codes(of x: Tensor, _ parameters: QuantizationParameters) -> [Int32] {
        let (channels, inner) = x.channelLayout(axis: parameters.axis)
        let values = x.span
        return (0..<x.count).map { index in
            let channel = index / max(inner, 1) % channels
            return Rounding.code(
                values[index], scale: parameters.scales[channel],
                zeroPoint: parameters.zeroPoints[channel], codes: parameters.scheme.codes)
        }
    }

    // Runs of elements with one scale, shared out over the pool.
    private static func forEachRun(
        of x: Tensor, _ parameters: QuantizationParameters,
        _ body: (esp_quantizer, Int, Int) -> Void
    ) {
        let (channels, inner) = x.channelLayout(axis: parameters.axis)
        require(
            parameters.scales.count == channels,
            "\(parameters.scales.count) scales for \(channels) channels of \(x.shape)")
        guard x.count > 0 else { return }
        let codes = parameters.scheme.codes
        func quantizer(_ channel: Int) -> esp_quantizer {
            esp_quantizer(
                scale: parameters.scales[channel], zero_point: parameters.zeroPoints[channel],
                low: codes.lowerBound, high: codes.upperBound)
        }
        if channels == 1 {
            forEachBlock(x.count) { at, n in body(quantizer(0), at, n) }
            return
        }
        let runs = x.count / inner
        let runsATime = max(grain / inner, 1)
        ThreadPool.shared.forEachRange(runs, grain: runsATime) { range in
            for run in range {
                body(quantizer(run % channels), run * inner, inner)
            }
        }
    }
}

extension QuantizationParameters {
    /// The axis with a scale for each index, nil for one scale.
    package var axis: Int? {
        if case .channel(let axis) = scheme.granularity { return axis }
        return nil
    }
}
