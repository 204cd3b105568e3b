import CEspalierKernels
package import EspalierTensors

/// Whole-tensor calls of the C kernels, shared out over the pool in chunks that depend on shapes alone.
package enum Kernels {
    static var c: esp_kernels { unsafe KernelTable.current }

    /// Elements a thread takes at a time: a few microseconds of work.
    static let grain = 16_384

    /// Calls `body` with offset and length of each chunk.
    static func forEachBlock(_ count: Int, grain: Int = grain, _ body: (Int, Int) -> Void) {
        ThreadPool.shared.forEachRange(count, grain: grain) { body($0.lowerBound, $0.count) }
    }
}

// MARK: - Element-wise

extension Kernels {
    /// a + b, of equal shapes.
    package static func add(_ a: Tensor, _ b: Tensor) -> Tensor {
        unsafe combine(a, b) { unsafe c.f32_add($0, $1, $2, $3) }
    }

    /// a * b, element by element, of equal shapes.
    package static func multiply(_ a: Tensor, _ b: Tensor) -> Tensor {
        unsafe combine(a, b) { unsafe c.f32_mul($0, $1, $2, $3) }
    }

    /// The gradient of ReLU: dy where its output y is above 0, else 0.
    package static func reluGradient(output y: Tensor, upstream dy: Tensor) -> Tensor {
        unsafe combine(y, dy) { unsafe c.f32_relu_gradient($0, $1, $2, $3) }
    }

    /// max(x, 0); NaN stays NaN.
    package static func relu(_ x: Tensor) -> Tensor {
        unsafe map(x) { unsafe c.f32_relu($0, $1, $2) }
    }

    /// factor * x
    package static func scale(_ x: Tensor, by factor: Float) -> Tensor {
        unsafe map(x) { unsafe c.f32_scale(factor, $0, $1, $2) }
    }

    /// Each element rounded to bfloat16, half to even.
    package static func roundedToBF16(_ x: Tensor) -> Tensor {
        unsafe map(x) { source, target, count in
            unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: count) { bits in
                guard let bits = bits.baseAddress else { return }
                unsafe c.f32_to_bf16(source, bits, count)
                unsafe c.bf16_to_f32(bits, target, count)
            }
        }
    }

    /// y += factor * x, in place.
    package static func add(_ x: Tensor, times factor: Float, to y: inout Tensor) {
        require(x.shape == y.shape && x.layout == y.layout, "add of \(x.shape) to \(y.shape)")
        let count = x.count
        unsafe y.writing { y in
            unsafe x.reading { x in
                forEachBlock(count) { at, n in unsafe c.f32_axpy(factor, x + at, y + at, n) }
            }
        }
    }

    /// x where the mask's bit is set, elsewhere +0.
    package static func mask(_ x: Tensor, with words: [UInt64]) -> Tensor {
        require(words.count * 64 >= x.count, "a mask of \(words.count) words for \(x.shape)")
        return unsafe Tensor(x.shape) { y in
            unsafe x.reading { unsafe mask(words, $0, y, x.count) }
        }
    }

    /// Sets x to +0 where the mask's bit is clear, in place.
    package static func applyMask(_ words: [UInt64], to x: inout Tensor) {
        let count = x.count
        require(words.count * 64 >= count, "a mask of \(words.count) words for \(x.shape)")
        unsafe x.writing { unsafe mask(words, $0, $0, count) }
    }

    private static func mask(
        _ words: [UInt64], _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int
    ) {
        unsafe words.withUnsafeBufferPointer { words in
            guard let words = words.baseAddress else { return }
            // The grain is a multiple of 64: chunks begin at a word.
            forEachBlock(count) { at, n in unsafe c.f32_mask(words + at / 64, x + at, y + at, n) }
        }
    }

    /// Zeros, filled in by all threads: for what is large, such as the gradient of an embedding.
    package static func zeros(_ shape: Shape) -> Tensor {
        unsafe Tensor(shape) { y in
            forEachBlock(shape.elementCount, grain: 16 * grain) { at, n in
                unsafe UnsafeMutableRawBufferPointer(
                    start: y + at, count: n * MemoryLayout<Float>.stride
                ).initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    static func map(
        _ x: Tensor, _ kernel: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
    ) -> Tensor {
        unsafe Tensor(x.shape, layout: x.layout) { y in
            unsafe x.reading { source in
                forEachBlock(x.count) { at, n in unsafe kernel(source + at, y + at, n) }
            }
        }
    }

    static func combine(
        _ a: Tensor, _ b: Tensor,
        _ kernel: (UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) ->
            Void
    ) -> Tensor {
        require(
            a.shape == b.shape && a.layout == b.layout,
            "operands of shapes \(a.shape) and \(b.shape), in layouts of their own")
        return unsafe Tensor(a.shape, layout: a.layout) { y in
            unsafe reading(a, b) { first, second in
                forEachBlock(a.count) { at, n in
                    unsafe kernel(first + at, second + at, y + at, n)
                }
            }
        }
    }
}

// MARK: - Reductions over everything

extension Kernels {
    /// The sum of all elements. Chunks are summed in order: the same for any number of threads.
    package static func sum(_ x: Tensor) -> Float {
        unsafe Float(partials(x) { unsafe Double(c.f32_sum($0, $1)) }.reduce(0, +))
    }

    /// The largest magnitude; NaN if any element is NaN.
    package static func largestMagnitude(_ x: Tensor) -> Float {
        unsafe Float(
            partials(x) { unsafe Double(c.f32_abs_max($0, $1)) }.reduce(0) {
                $1.isNaN || $1 > $0 ? $1 : $0
            })
    }

    private static func partials(
        _ x: Tensor, _ kernel: (UnsafePointer<Float>, Int) -> Double
    ) -> [Double] {
        let chunks = (x.count + grain - 1) / grain
        return unsafe [Double](unsafeUninitializedCapacity: chunks) { buffer, initialized in
            let sums = unsafe buffer
            unsafe x.reading { elements in
                forEachBlock(x.count) { at, n in
                    unsafe sums[at / grain] = unsafe kernel(elements + at, n)
                }
            }
            initialized = chunks
        }
    }
}
