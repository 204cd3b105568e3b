import CEspalierKernels
import EspalierTensors

extension KernelCases {
    // Kernels that do many things do the one that costs most, or that networks need most.
    /// Functions of elements, rows, copies.
    static let functionCalls: [String: Call] = unsafe [
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
        "f32_row_norm": { k, o in
            unsafe k.f32_row_norm(true, 1e-5, o.a, o.y, o.z, rows, columns)
        },
        "f32_row_norm_gradient": { k, o in
            unsafe k.f32_row_norm_gradient(true, o.a, o.b, o.b, o.y, rows, columns)
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
            unsafe k.f32_take_gradient(o.zeros, o.a, o.y, rows, columns)
        },
        "f32_gather": { k, o in unsafe k.f32_gather(o.zeros, o.a, o.y, rows, columns) },
        "f32_scatter_add": { k, o in unsafe k.f32_scatter_add(o.zeros, o.a, o.y, rows, columns) },
        "f32_to_f16": { k, o in unsafe k.f32_to_f16(o.a, o.halves, count) },
        "f16_to_f32": { k, o in unsafe k.f16_to_f32(o.halves, o.y, count) },
        "f32_to_bf16": { k, o in unsafe k.f32_to_bf16(o.a, o.halves, count) },
        "bf16_to_f32": { k, o in unsafe k.bf16_to_f32(o.halves, o.y, count) },
    ]
}
