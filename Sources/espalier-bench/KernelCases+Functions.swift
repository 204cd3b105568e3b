import CEspalierKernels
import EspalierTensors

extension KernelCases {
    private static let head = esp_attention(
        queries: 64, keys: 64, depth: 32, value_depth: 32, query_pitch: 32, key_pitch: 32,
        value_pitch: 32, result_pitch: 32, scale: 0.2, causal: false, halves: false)

    // The same in one block.
    private static let blocks = esp_attention(
        queries: 64, keys: 64, depth: 32, value_depth: 32, query_pitch: 2_048, key_pitch: 2_048,
        value_pitch: 2_048, result_pitch: 2_048, scale: 0.2, causal: false, halves: false)

    // Kernels that do many things do the one that costs most, or that networks need most.
    /// Functions of elements, rows, copies.
    static let functionCalls: [String: Call] = unsafe [
        "f32_taps": { k, o in
            unsafe withUnsafePointer(to: taps) { unsafe k.f32_taps($0, o.a, o.b, nil, true, o.y) }
        },
        "f32_taps_gradient": { k, o in
            unsafe withUnsafePointer(to: taps) { unsafe k.f32_taps_gradient($0, o.a, o.b, o.z) }
        },
        "f32_depthwise": { k, o in
            unsafe withUnsafePointer(to: channelTaps) {
                unsafe k.f32_depthwise($0, o.a, o.b, nil, true, o.y)
            }
        },
        "f32_depthwise_gradient": { k, o in
            unsafe withUnsafePointer(to: channelTaps) {
                unsafe k.f32_depthwise_gradient($0, o.a, o.b, o.z)
            }
        },
        "f32_winograd_operands": { k, o in
            unsafe withUnsafePointer(to: tiles) { unsafe k.f32_winograd_operands($0, o.a, o.y) }
        },
        "f32_winograd_results": { k, o in
            unsafe withUnsafePointer(to: tiles) {
                unsafe k.f32_winograd_results($0, o.a, nil, true, o.y)
            }
        },
        "f32_winograd_upstream": { k, o in
            unsafe withUnsafePointer(to: tiles) { unsafe k.f32_winograd_upstream($0, o.a, o.y) }
        },
        "f32_winograd_weights": { k, o in unsafe k.f32_winograd_weights(o.a, 1_024, o.y, 1_024) },
        "f32_winograd_weights_gradient": { k, o in
            unsafe k.f32_winograd_weights_gradient(o.a, 1_024, o.y)
        },
        "f32_relu_pool2": { k, o in
            unsafe UnsafeMutableRawPointer(o.words).withMemoryRebound(
                to: UInt8.self, capacity: count
            ) { unsafe k.f32_relu_pool2(o.a, count / 2, 128, 32, o.y, $0) }
        },
        "f32_relu_pool2_gradient": { k, o in
            unsafe UnsafeMutableRawPointer(o.words).withMemoryRebound(
                to: UInt8.self, capacity: count
            ) { unsafe k.f32_relu_pool2_gradient($0, o.a, count / 2, 128, 32, o.y) }
        },
        "f32_column_moments": { k, o in
            unsafe k.f32_column_moments(o.a, rows, columns, o.y, o.z)
        },
        "f32_column_affine_relu": { k, o in
            unsafe k.f32_column_affine_relu(o.a, o.b, o.b, o.a, o.y, rows, columns)
        },
        "f32_norm_sums": { k, o in
            unsafe k.f32_norm_sums(o.a, o.b, o.b, o.b, o.b, rows, columns, o.y, o.z)
        },
        "f32_norm_gradient": { k, o in
            unsafe k.f32_norm_gradient(o.a, o.b, o.b, o.b, o.b, o.b, o.y, rows, columns)
        },
        "f32_unary": { k, o in unsafe k.f32_unary(ESP_GELU, 0, 0, o.a, o.y, count) },
        "f32_unary_gradient": { k, o in
            unsafe k.f32_unary_gradient(ESP_GELU, 0, 0, o.a, o.b, o.y, count)
        },
        "f32_binary": { k, o in unsafe k.f32_binary(ESP_MAXIMUM, o.a, o.b, o.y, count) },
        "f32_binary_gradient": { k, o in
            unsafe k.f32_binary_gradient(ESP_MULTIPLY, o.a, o.b, o.a, o.y, o.z, count)
        },
        "f32_select": { k, o in unsafe k.f32_select(o.a, o.a, o.b, o.y, count) },
        "f32_row_reduce": { k, o in
            unsafe k.f32_row_reduce(ESP_VARIANCE, 0, o.a, o.y, rows, columns)
        },
        "f32_row_reduce_gradient": { k, o in
            unsafe k.f32_row_reduce_gradient(ESP_VARIANCE, 0, o.a, o.b, o.b, o.y, rows, columns)
        },
        "f32_row_extreme": { k, o in
            unsafe k.f32_row_extreme(true, o.a, o.integers, rows, columns)
        },
        "f32_layer_norm": { k, o in
            let residual = unsafe o.z + 2 * count
            unsafe k.f32_layer_norm(
                true, 1e-5, o.a, residual, o.b, o.b, o.y, o.z, o.y + count, rows, columns)
        },
        "f32_layer_norm_gradient": { k, o in
            unsafe k.f32_layer_norm_gradient(
                true, o.a, o.b, o.b, o.b, o.y, o.z, o.z + columns, rows, columns)
        },
        "f32_cross_entropy": { k, o in
            var rule = unsafe esp_cross_entropy(weights: nil, smoothing: 0)
            unsafe k.f32_cross_entropy(
                &rule, o.a, o.zeros, nil, o.y, o.y + rows, o.z, rows, columns)
        },
        "f32_cross_entropy_gradient": { k, o in
            var rule = unsafe esp_cross_entropy(weights: nil, smoothing: 0)
            unsafe k.f32_cross_entropy_gradient(
                &rule, o.a, o.zeros, nil, o.b, o.b, o.b, o.y, rows, columns)
        },
        // One head of 64 places of 32 numbers.
        "f32_attention": { k, o in
            var shape = head
            unsafe k.f32_attention(&shape, o.a, o.b, o.a, nil, o.y, o.y + 4_096, o.z)
        },
        "f32_attention_gradient": { k, o in
            var shape = head
            unsafe k.f32_attention_gradient(
                &shape, o.a, o.b, o.a, nil, o.a, o.b, o.b, o.y, o.y + 4_096, o.y + 8_192, o.z)
        },
        "f32_attention_blocks": { k, o in
            var shape = blocks
            unsafe k.f32_attention_blocks(&shape, o.a, o.b, o.a, nil, o.y, o.y + 4_096, o.z)
        },
        "f32_attention_blocks_gradient": { k, o in
            var shape = blocks
            unsafe k.f32_attention_blocks_gradient(
                &shape, o.a, o.b, o.a, nil, o.a, o.b, o.b, o.y, o.y + 4_096, o.y + 8_192, o.z)
        },
        "f32_adam": { k, o in
            var rule = esp_adam(
                beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0, step: 1e-9, root: 1)
            unsafe k.f32_adam(&rule, o.a, o.y, o.z, o.b, nil, count)
        },
        "f32_adagrad": { k, o in
            var rule = esp_adagrad(rate: 1e-9, epsilon: 1e-8, decay: 0)
            unsafe k.f32_adagrad(&rule, o.a, o.y, o.b, count)
        },
        "f32_rmsprop": { k, o in
            var rule = esp_rmsprop(
                rate: 1e-9, smoothing: 0.99, epsilon: 1e-8, decay: 0, momentum: 0)
            unsafe k.f32_rmsprop(&rule, o.a, o.y, o.b, nil, nil, count)
        },
        "f32_cumulative_sum": { k, o in
            unsafe k.f32_cumulative_sum(false, o.a, o.y, rows, columns)
        },
        "f32_strided_copy": { k, o in
            // A transposition.
            let (extents, from, to) = (
                [Int64(columns), Int64(rows)], [1, Int64(columns)], [Int64(rows), 1]
            )
            unsafe k.f32_strided_copy(2, extents, from, to, o.a, o.y)
        },
        "f32_take": { k, o in unsafe k.f32_take(o.zeros, o.a, o.y, rows, columns) },
        "f32_take_gradient": { k, o in
            unsafe k.f32_take_gradient(o.zeros, o.a, o.y, rows, columns, columns)
        },
        "f32_gather": { k, o in unsafe k.f32_gather(o.zeros, o.a, o.y, rows, columns) },
        "f32_scatter_add": { k, o in unsafe k.f32_scatter_add(o.zeros, o.a, o.y, rows, columns) },
        "f32_to_f16": { k, o in unsafe k.f32_to_f16(o.a, o.halves, count) },
        "f16_to_f32": { k, o in unsafe k.f16_to_f32(o.halves, o.y, count) },
        "f32_to_bf16": { k, o in unsafe k.f32_to_bf16(o.a, o.halves, count) },
        "bf16_to_f32": { k, o in unsafe k.bf16_to_f32(o.halves, o.y, count) },
    ]

    // 3x3 over 14 x 14 pixels of 16 channels to 32; the same over each channel on its own.
    private static let taps = esp_taps(
        rows: 14, columns: 14, down: 16 * 16, right: 16, taps_y: 3, taps_x: 1, tap_down: 16 * 16,
        tap_right: 0, depth: 48, out_down: 14 * 32, out_right: 32, outputs: 32)
    private static let channelTaps = esp_taps(
        rows: 14, columns: 14, down: 16 * 32, right: 32, taps_y: 3, taps_x: 3, tap_down: 16 * 32,
        tap_right: 32, depth: 1, out_down: 14 * 32, out_right: 32, outputs: 32)
    // A row of 14 tiles of 32 channels.
    private static let tiles = esp_tiles(
        tiles: 14, channels: 32, down: 30 * 32, right: 32, plane: 14 * 32, rows: 2, columns: 28)
}
