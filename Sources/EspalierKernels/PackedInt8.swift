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

/// INT8 weights as the dense kernel wants them: see `esp_int8_dense`.
package struct DenseInt8: Sendable {
    /// Channels of one tap.
    package let channels: Int
    /// Taps of the window; 1 for a linear layer.
    package let taps: Int
    package let outputs: Int
    /// The code that stands for 0 in the operand, used outside images.
    package let inputZeroPoint: UInt8
    private let weights: PackedBuffer
    private let pad: [UInt8]
    private let requantization: Requantization

    /// Packs weights [outputs, taps, channels], row-major.
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
        let depth = taps * padded
        let last = outputs / 64 * 64
        let columns = last + (outputs > last ? esp_dense_width(outputs - last) : 0)
        var packed = [Int8](repeating: 0, count: columns * depth)
        for output in 0..<outputs {
            let panel = output / 64 * 64
            let step = 4 * min(64, columns - panel)
            var from = output * taps * channels
            for tap in 0..<taps {
                let start = panel * depth + tap * padded / 4 * step + output % 64 * 4
                for channel in 0..<channels {
                    packed[start + channel / 4 * step + channel % 4] = weights[from + channel]
                }
                from += channels
            }
        }
        (self.channels, self.taps, self.outputs) = (channels, taps, outputs)
        self.inputZeroPoint = inputZeroPoint
        self.weights = PackedBuffer(packed)
        pad = [UInt8](repeating: inputZeroPoint, count: padded)
        self.requantization = requantization
    }

    /// Computes output pixels `first` ..< `first + count` of one image.
    ///
    /// - Precondition: 3 bytes behind the image can be read.
    package func multiply(
        _ kernels: esp_kernels, _ window: esp_window, image: UnsafePointer<UInt8>,
        first: Int, count: Int, kind: esp_out, into y: UnsafeMutableRawPointer, pitch: Int
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

/// How the dense INT8 kernel computes a convolution: over a copy of the image with what its window needs around it,
/// where it needs any, so that every tap is inside; and with the taps of a row, which are neighbours there, as one
/// with more channels.
package struct DenseConvolution: Sendable {
    private let window: esp_window
    private let rows: esp_window
    private let isPadded: Bool

    /// Nil where the taps of a row are no neighbours in memory.
    package init?(_ window: esp_window) {
        guard window.kernel_width == 1 || window.dilation_x == 1,
            window.kernel_width == 1 || window.pitch == window.channels
        else { return nil }
        self.window = window
        let reach = (window.kernel_height - 1) * window.dilation_y + 1
        let (height, width) = (
            (window.out_height - 1) * window.stride_y + reach,
            (window.out_width - 1) * window.stride_x + window.kernel_width
        )
        isPadded =
            window.pad_top > 0 || window.pad_left > 0 || height > window.height
            || width > window.width
        var rows = window
        if isPadded {
            (rows.height, rows.width, rows.pitch) = (height, width, window.channels)
            (rows.pad_top, rows.pad_left) = (0, 0)
        }
        (rows.channels, rows.kernel_width) = (window.kernel_width * window.channels, 1)
        self.rows = rows
    }

    /// The taps that a layer is packed with: rows of the window.
    package var taps: Int { Int(rows.kernel_height) }
    /// The channels that it is packed with: all of a row.
    package var channels: Int { Int(rows.channels) }

    /// Bytes of scratch that `multiply` needs.
    package var scratchBytes: Int {
        isPadded ? Int(rows.height) * Int(rows.width) * Int(rows.pitch) + 3 : 0
    }

    /// Computes all output pixels of one image.
    package func multiply(
        _ kernels: esp_kernels, _ layer: DenseInt8, image: UnsafePointer<UInt8>,
        scratch: UnsafeMutablePointer<UInt8>, kind: esp_out, into y: UnsafeMutableRawPointer,
        pitch: Int
    ) {
        if isPadded {
            unsafe withUnsafePointer(to: window) {
                unsafe kernels.u8_pad($0, image, layer.inputZeroPoint, scratch)
            }
        }
        unsafe layer.multiply(
            kernels, rows, image: isPadded ? UnsafePointer(scratch) : image, first: 0,
            count: Int(window.out_height) * Int(window.out_width), kind: kind, into: y,
            pitch: pitch)
    }
}
