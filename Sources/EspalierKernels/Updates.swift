package import CEspalierKernels
package import EspalierTensors

// Optimizer steps in place, and checksums.
extension Kernels {
    /// One step of stochastic gradient descent. `momentum` has the shape of `value`, or nil.
    package static func sgd(
        _ rule: esp_sgd, gradient: Tensor, value: inout Tensor, momentum: inout Tensor?
    ) {
        require(gradient.shape == value.shape, "gradient \(gradient.shape) of \(value.shape)")
        let count = value.count
        func step(_ momentum: UnsafeMutablePointer<Float>?) {
            unsafe value.writing { value in
                unsafe gradient.reading { gradient in
                    forEachBlock(count) { at, n in
                        unsafe withUnsafePointer(to: rule) {
                            unsafe c.f32_sgd(
                                $0, gradient + at, value + at, momentum.map { unsafe $0 + at }, n)
                        }
                    }
                }
            }
        }
        if momentum == nil { step(nil) } else { unsafe momentum?.writing { unsafe step($0) } }
    }

    /// One step of AdamW. `first` and `second` are the moments.
    package static func adamW(
        _ rule: esp_adamw, gradient: Tensor, value: inout Tensor, first: inout Tensor,
        second: inout Tensor
    ) {
        require(gradient.shape == value.shape, "gradient \(gradient.shape) of \(value.shape)")
        let count = value.count
        unsafe value.writing { value in
            unsafe first.writing { first in
                unsafe second.writing { second in
                    unsafe gradient.reading { gradient in
                        forEachBlock(count) { at, n in
                            unsafe withUnsafePointer(to: rule) {
                                unsafe c.f32_adamw(
                                    $0, gradient + at, value + at, first + at, second + at, n)
                            }
                        }
                    }
                }
            }
        }
    }

    /// CRC-32C (Castagnoli) of bytes, continued from `crc`.
    package static func crc32c(_ bytes: Span<UInt8>, continuing crc: UInt32 = 0) -> UInt32 {
        unsafe bytes.withUnsafeBufferPointer { unsafe c.u8_crc32c(crc, $0.baseAddress, $0.count) }
    }
}
