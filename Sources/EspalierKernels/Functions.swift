package import CEspalierKernels
package import EspalierTensors

// Functions of one or two numbers, element by element.
extension Kernels {
    /// A function of each element; `p` and `q` are its parameters where it has some.
    package static func unary(_ function: esp_unary, p: Float = 0, q: Float = 0, _ x: Tensor)
        -> Tensor
    {
        unsafe map(x) { unsafe c.f32_unary(function, p, q, $0, $1, $2) }
    }

    /// dx of a function from what it saved: its result where `esp_derives_from_result`, else its operand.
    package static func unaryGradient(
        _ function: esp_unary, p: Float, q: Float, saved: Tensor, upstream dy: Tensor
    ) -> Tensor {
        unsafe combine(saved, dy) {
            unsafe c.f32_unary_gradient(function, p, q, $0, $1, $2, $3)
        }
    }

    /// A function of two elements, of equal shapes.
    package static func binary(_ function: esp_binary, _ a: Tensor, _ b: Tensor) -> Tensor {
        unsafe combine(a, b) { unsafe c.f32_binary(function, $0, $1, $2, $3) }
    }

    /// da and db of a function of two elements, nil where nobody asks. All shapes are equal.
    package static func binaryGradients(
        _ function: esp_binary, _ a: Tensor, _ b: Tensor, upstream dy: Tensor, needed: [Bool]
    ) -> [Tensor?] {
        require(
            a.shape == b.shape && a.shape == dy.shape,
            "operands of shapes \(a.shape) and \(b.shape), upstream \(dy.shape)")
        var da = Tensor.zeros(needed[0] ? a.shape : [0])
        var db = Tensor.zeros(needed[1] ? b.shape : [0])
        unsafe da.writing { da in
            unsafe db.writing { db in
                unsafe reading(a, b, dy) { a, b, upstream in
                    forEachBlock(dy.count) { at, n in
                        unsafe c.f32_binary_gradient(
                            function, a + at, b + at, upstream + at, needed[0] ? da + at : nil,
                            needed[1] ? db + at : nil, n)
                    }
                }
            }
        }
        return [needed[0] ? da : nil, needed[1] ? db : nil]
    }

    /// a where the condition is not 0, else b, of equal shapes.
    package static func select(_ condition: Tensor, _ a: Tensor, _ b: Tensor) -> Tensor {
        require(
            condition.shape == a.shape && a.shape == b.shape,
            "a condition of shape \(condition.shape) between \(a.shape) and \(b.shape)")
        return unsafe Tensor(a.shape) { y in
            unsafe reading(condition, a, b) { condition, first, second in
                forEachBlock(a.count) { at, n in
                    unsafe c.f32_select(condition + at, first + at, second + at, y + at, n)
                }
            }
        }
    }
}
