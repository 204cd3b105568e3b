package import CEspalierKernels
import EspalierTensors

/// What becomes of the integer sums of a layer: see `esp_requantization`.
package struct Requantization: Sendable {
    /// Added to the sums; holds the correction for the operand's zero point. Padded to 64 outputs.
    let bias: [Int32]
    /// What a sum is multiplied by. Padded likewise.
    let scale: [Float]
    let outputs: Int
    let zeroPoint: Int32
    let low: Int32
    let high: Int32

    /// A table for `scale.count` outputs.
    ///
    /// - Parameter range: The codes of the result, within 0...255.
    package init(
        bias: [Int32], scale: [Float], zeroPoint: Int32, range: ClosedRange<Int32> = 0...255
    ) {
        require(bias.count == scale.count, "\(bias.count) biases, \(scale.count) scales")
        require(
            scale.allSatisfy { $0 > 0 && $0 < 1 },
            "a scale is not in 0..<1: the step of a result would be finer than that of its sums")
        require(range.lowerBound >= 0 && range.upperBound <= 255, "codes \(range)")
        outputs = scale.count
        let padding = (64 - outputs % 64) % 64
        self.bias = bias + [Int32](repeating: 0, count: padding)
        self.scale = scale + [Float](repeating: 0, count: padding)
        self.zeroPoint = zeroPoint
        (low, high) = (range.lowerBound, range.upperBound)
    }

    func withC<Result>(_ body: (esp_requantization) -> Result) -> Result {
        unsafe bias.withUnsafeBufferPointer { bias in
            unsafe scale.withUnsafeBufferPointer { scale in
                unsafe body(
                    esp_requantization(
                        bias: bias.baseAddress, scale: scale.baseAddress, outputs: Int32(outputs),
                        zero_point: zeroPoint, low: low, high: high))
            }
        }
    }
}

/// INT8 weights as the dense kernel wants them: [outputs / 64][taps * channels / 4][64][4].
package struct DenseInt8: Sendable {
    /// Channels of one tap, a multiple of 4.
    package let channels: Int
    /// Taps of the window; 1 for a linear layer.
    package let taps: Int
    package let outputs: Int
    private let weights: PackedBuffer
    private let pad: [UInt8]
    private let requantization: Requantization

    /// Packs weights [outputs, taps, channels], row-major; channels are filled up to a multiple of 4.
    ///
    /// - Parameter inputZeroPoint: The code that stands for 0 in the operand, used outside images.
    package init(
        _ weights: [Int8], outputs: Int, taps: Int, channels: Int, inputZeroPoint: UInt8,
        _ requantization: Requantization
    ) {
        require(weights.count == outputs * taps * channels, "\(weights.count) INT8 weights")
        require(requantization.outputs == outputs, "\(requantization.outputs) scales")
        requireTaps(taps)
        let padded = (channels + 3) / 4 * 4
        let panel = taps * padded * 64
        var packed = [Int8](repeating: 0, count: (outputs + 63) / 64 * panel)
        for output in 0..<outputs {
            for tap in 0..<taps {
                for channel in 0..<channels {
                    let depth = tap * padded + channel
                    let at = output / 64 * panel + depth / 4 * 256 + output % 64 * 4 + depth % 4
                    packed[at] = weights[(output * taps + tap) * channels + channel]
                }
            }
        }
        (self.channels, self.taps, self.outputs) = (padded, taps, outputs)
        self.weights = PackedBuffer(packed)
        pad = [UInt8](repeating: inputZeroPoint, count: padded)
        self.requantization = requantization
    }

    /// Computes output pixels `first` ..< `first + count` of one image.
    package func multiply(
        _ kernels: esp_kernels, _ window: esp_window, image: UnsafePointer<UInt8>, first: Int,
        count: Int, kind: esp_out, into y: UnsafeMutableRawPointer, pitch: Int
    ) {
        unsafe requantization.withC { out in
            unsafe weights.reading { weights in
                unsafe pad.withUnsafeBufferPointer { pad in
                    var layer = unsafe esp_int8_dense(
                        weights: weights.assumingMemoryBound(to: Int8.self), pad: pad.baseAddress,
                        out: out)
                    var window = window
                    unsafe kernels.u8s8_dense(&window, &layer, image, first, count, kind, y, pitch)
                }
            }
        }
    }
}
