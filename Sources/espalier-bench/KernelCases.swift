import CEspalierKernels
import EspalierTensors

/// Every kernel of the table against its scalar twin, on one thread and data that stay in the cache.
enum KernelCases {
    /// Rows and columns of the operands, and the number of their elements.
    static let (rows, columns) = (64, 256)
    static let count = rows * columns

    /// Operands that the kernels share.
    @unsafe struct Operands {
        let a: UnsafeMutablePointer<Float>
        let b: UnsafeMutablePointer<Float>
        let y: UnsafeMutablePointer<Float>
        let z: UnsafeMutablePointer<Float>
        let integers: UnsafeMutablePointer<Int32>
        /// Row numbers that nobody writes.
        let zeros: UnsafeMutablePointer<Int32>
        let halves: UnsafeMutablePointer<UInt16>
        let words: UnsafeMutablePointer<UInt64>
        let window: UnsafeMutablePointer<esp_window>
        let sgd: UnsafeMutablePointer<esp_sgd>
        let adamW: UnsafeMutablePointer<esp_adamw>
        let quantizer: UnsafeMutablePointer<esp_quantizer>

        init() {
            func block<Element>(_ value: Element, _ count: Int) -> UnsafeMutablePointer<Element> {
                let block = UnsafeMutablePointer<Element>.allocate(capacity: count)
                unsafe block.initialize(repeating: value, count: count)
                return unsafe block
            }
            // Room for nine columns a pixel.
            let room = 9 * KernelCases.count
            unsafe (a, b, y, z) = unsafe (
                block(0, room), block(0, room), block(0, room), block(0, room)
            )
            for (index, value) in RandomStream(seed: 1).normal(KernelCases.count).enumerated() {
                unsafe a[index] = value
                unsafe b[index] = abs(value)
            }
            unsafe integers = block(0, room)
            unsafe zeros = block(0, KernelCases.count)
            unsafe halves = block(0x3C01, KernelCases.count)
            unsafe words = block(0x5555_3333_0F0F_00FF, KernelCases.count)
            // 16 x 16 pixels of 64 channels under 3 x 3.
            unsafe window = block(
                esp_window(
                    height: 16, width: 16, channels: 64, pitch: 64, out_height: 16, out_width: 16,
                    kernel_height: 3, kernel_width: 3, stride_y: 1, stride_x: 1, pad_top: 1,
                    pad_left: 1, dilation_y: 1, dilation_x: 1), 1)
            unsafe quantizer = block(
                esp_quantizer(scale: 0.02, zero_point: 90, low: 0, high: 255), 1)
            unsafe sgd = block(
                esp_sgd(rate: 1e-9, momentum: 0.9, gain: 1, decay: 0, nesterov: false), 1)
            unsafe adamW = block(
                esp_adamw(beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 1e-9, root: 1, keep: 1), 1)
        }
    }

    typealias Call = @Sendable (esp_kernels, Operands) -> Void

    // One entry a kernel of kernels.def; `all` reports those that are missing.
    private static let calls: [String: Call] = unsafe [
        "f32_add": { k, o in unsafe k.f32_add(o.a, o.b, o.y, count) },
        "f32_mul": { k, o in unsafe k.f32_mul(o.a, o.b, o.y, count) },
        "f32_scale": { k, o in unsafe k.f32_scale(0.5, o.a, o.y, count) },
        "f32_axpy": { k, o in unsafe k.f32_axpy(1e-6, o.a, o.y, count) },
        "f32_relu": { k, o in unsafe k.f32_relu(o.a, o.y, count) },
        "f32_relu_gradient": { k, o in unsafe k.f32_relu_gradient(o.a, o.b, o.y, count) },
        "f32_exp": { k, o in unsafe k.f32_exp(o.a, o.y, count) },
        "f32_mask": { k, o in unsafe k.f32_mask(o.words, o.a, o.y, count) },
        "f32_sum": { k, o in unsafe o.z[0] = unsafe k.f32_sum(o.a, count) },
        "f32_sum_squares": { k, o in unsafe o.z[0] = unsafe Float(k.f32_sum_squares(o.a, count)) },
        "f32_abs_max": { k, o in unsafe o.z[0] = unsafe k.f32_abs_max(o.a, count) },
        "f32_add_row": { k, o in unsafe k.f32_add_row(o.a, o.y, rows, columns) },
        "f32_column_sums": { k, o in unsafe k.f32_column_sums(o.a, rows, columns, o.z) },
        "f32_column_affine": { k, o in unsafe k.f32_column_affine(o.a, o.b, o.b, o.y, rows, columns)
        },
        "f32_softmax": { k, o in unsafe k.f32_softmax(1, o.a, o.y, rows, columns) },
        "f32_log_softmax": { k, o in unsafe k.f32_log_softmax(1, o.a, o.y, rows, columns) },
        "f32_softmax_gradient": { k, o in
            unsafe k.f32_softmax_gradient(o.a, o.b, o.y, rows, columns)
        },
        "f32_log_softmax_gradient": { k, o in
            unsafe k.f32_log_softmax_gradient(o.a, o.b, o.y, rows, columns)
        },
        "f32_im2col": { k, o in unsafe k.f32_im2col(o.window, o.a, 0, 256, o.y) },
        "f32_col2im": { k, o in unsafe k.f32_col2im(o.window, o.y, 0, 256, o.z) },
        "f32_max_pool": { k, o in unsafe k.f32_max_pool(o.window, o.a, o.y, o.integers) },
        "u8_max_pool": { k, o in
            unsafe UnsafeMutableRawPointer(o.a).withMemoryRebound(to: UInt8.self, capacity: count) {
                a in
                unsafe UnsafeMutableRawPointer(o.y).withMemoryRebound(
                    to: UInt8.self, capacity: count
                ) { unsafe k.u8_max_pool(o.window, a, $0, 64) }
            }
        },
        "f32_max_pool_gradient": { k, o in
            unsafe k.f32_max_pool_gradient(o.window, o.integers, o.b, o.z)
        },
        "f32_avg_pool": { k, o in unsafe k.f32_avg_pool(o.window, o.a, o.b, o.y) },
        "f32_avg_pool_gradient": { k, o in
            unsafe k.f32_avg_pool_gradient(o.window, o.b, o.a, o.z)
        },
        "f32_sgd": { k, o in unsafe k.f32_sgd(o.sgd, o.a, o.y, o.z, count) },
        "f32_adamw": { k, o in unsafe k.f32_adamw(o.adamW, o.a, o.y, o.z, o.b, count) },
        "f32_fake_quantize": { k, o in unsafe k.f32_fake_quantize(o.quantizer, o.a, o.y, count) },
        "f32_fake_quantize_gradient": { k, o in
            unsafe k.f32_fake_quantize_gradient(o.quantizer, o.a, o.b, o.y, count)
        },
        "f32_quantize_u8": { k, o in
            unsafe UnsafeMutableRawPointer(o.y).withMemoryRebound(to: UInt8.self, capacity: count) {
                unsafe k.f32_quantize_u8(o.quantizer, o.a, $0, count)
            }
        },
        "u8_dequantize": { k, o in
            unsafe UnsafeMutableRawPointer(o.a).withMemoryRebound(to: UInt8.self, capacity: count) {
                unsafe k.u8_dequantize(o.quantizer, $0, o.y, count)
            }
        },
        // A panel whose columns are contiguous.
        "f32_pack_panel": { k, o in unsafe k.f32_pack_panel(o.a, 1, 256, 256, 32, false, o.y) },
        "f32_copy_rows": { k, o in
            unsafe k.f32_copy_rows(o.a, columns, rows, columns, true, o.y, columns)
        },
        "bf16_pack_panel": { k, o in unsafe k.bf16_pack_panel(o.a, 1, 256, 256, 32, o.y) },
        "bf16_pair_rows": { k, o in
            unsafe k.bf16_pair_rows(o.a, columns, rows, columns, o.y, columns)
        },
        "bf16_pair_columns": { k, o in
            unsafe k.bf16_pair_columns(o.a, columns, rows, columns, o.y, columns / 2)
        },
        "f32_dots": { k, o in unsafe k.f32_dots(o.a, columns, o.b, nil, rows, columns, o.y) },
        "u32_philox": { k, o in
            unsafe UnsafeMutableRawPointer(o.y).withMemoryRebound(to: UInt32.self, capacity: count)
            {
                unsafe k.u32_philox(1, 2, 3, $0, count / 4)
            }
        },
        "f32_keep": { k, o in
            unsafe UnsafeMutableRawPointer(o.words).withMemoryRebound(
                to: UInt32.self, capacity: count
            ) {
                unsafe k.f32_keep($0, 1 << 30, 2, o.y, count)
            }
        },
        "u8_crc32c": { k, o in
            unsafe UnsafeMutableRawPointer(o.a).withMemoryRebound(to: UInt8.self, capacity: count) {
                unsafe o.z[0] = unsafe Float(k.u8_crc32c(0, $0, count))
            }
        },
    ]

    // Measured as whole layers and products by `FloatCases`, `Int8Cases`, `SparseCases` and `ProductCases`.
    private static let layers = [
        "f32_dense", "f32_product", "bf16_product",
        "u8s8_dense", "u8s8_sparse_1x4", "u8s8_sparse_4x4", "u8_to_block", "u8_from_block",
        "u8_to_planes", "u8_pad", "f32_sparse_multiply", "f32_sparse_gradient",
        "f32_fours_multiply", "f32_fours_spread", "f32_fours_gradient", "f32_permute",
        "f32_to_blocks", "f32_from_blocks", "f32_block_norm", "f32_block_norm_gradient",
        "f32_block_sums",
    ]

    static var all: [Benchmark] {
        var names: [String] = []
        while let name = unsafe esp_kernel_name(names.count) {
            unsafe names.append(String(cString: name))
        }
        return names.filter { !layers.contains($0) }.map { name in
            guard let call = unsafe calls[name] ?? functionCalls[name] else {
                fatalError("kernel \(name) has no benchmark")
            }
            return Benchmark(name: "kernel/" + name) { meter in unsafe measure(meter, name, call) }
        }
    }

    private static func measure(_ meter: Meter, _ name: String, _ call: Call) -> Measurement {
        guard let scalar = unsafe KernelTable.table(for: .scalar)?.pointee else {
            fatalError("no scalar kernels")
        }
        let fast = unsafe KernelTable.current
        let operands = unsafe Operands()
        let times = meter.compare(
            { unsafe call(fast, operands) }, { unsafe call(scalar, operands) })
        return Measurement(
            "kernel/" + name, shape: "\(count) elements", threads: 1,
            rate: { Double(count) / $0 * 1e-9 }, unit: "Gelement/s", baseline: "its scalar twin",
            times)
    }
}
