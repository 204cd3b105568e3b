package import CEspalierKernels
import EspalierTensors

/// Float weights as the dense kernel wants them: [outputs / 64][taps * channels][64].
///
/// Each result is the bias and then one fused multiply-add after another: its bits depend on the pixel alone, not on
/// how many are computed with it, nor on the instruction set.
package struct DenseFloat: Sendable {
    /// Channels of one tap.
    package let channels: Int
    /// Taps of the window; 1 for a linear layer.
    package let taps: Int
    package let outputs: Int
    private let relu: Bool
    private let weights: PackedBuffer
    private let bias: [Float]
    private let pad: [Float]

    /// Packs weights [outputs, taps, channels], row-major.
    package init(
        _ weights: [Float], bias: [Float], outputs: Int, taps: Int, channels: Int,
        relu: Bool = false
    ) {
        require(weights.count == outputs * taps * channels, "\(weights.count) float weights")
        require(bias.count == outputs, "\(bias.count) biases for \(outputs) outputs")
        requireTaps(taps)
        let depth = taps * channels
        let panels = (outputs + 63) / 64
        var packed = [Float](repeating: 0, count: panels * depth * 64)
        for output in 0..<outputs {
            let panel = output / 64 * depth * 64 + output % 64
            for k in 0..<depth { packed[panel + k * 64] = weights[output * depth + k] }
        }
        (self.channels, self.taps, self.outputs, self.relu) = (channels, taps, outputs, relu)
        self.weights = PackedBuffer(packed)
        self.bias = bias + [Float](repeating: 0, count: panels * 64 - outputs)
        pad = [Float](repeating: 0, count: channels)
    }

    /// Computes output pixels `first` ..< `first + count` of one image.
    package func multiply(
        _ kernels: esp_kernels, _ window: esp_window, image: UnsafePointer<Float>, first: Int,
        count: Int, into y: UnsafeMutablePointer<Float>, pitch: Int
    ) {
        unsafe weights.reading { weights in
            unsafe bias.withUnsafeBufferPointer { bias in
                unsafe pad.withUnsafeBufferPointer { pad in
                    var layer = unsafe esp_f32_dense(
                        weights: weights.assumingMemoryBound(to: Float.self),
                        bias: bias.baseAddress, pad: pad.baseAddress, outputs: Int32(outputs),
                        relu: relu)
                    var window = window
                    unsafe kernels.f32_dense(&window, &layer, image, first, count, y, pitch)
                }
            }
        }
    }
}

/// The most taps that a window of a dense layer may have.
package let mostTaps = Int(ESP_MAX_TAPS)

func requireTaps(_ taps: Int) {
    require((1...mostTaps).contains(taps), "a window of \(taps) taps; 1...\(mostTaps)")
}
