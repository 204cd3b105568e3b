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

    /// A function of two elements, with broadcasting.
    package static func binary(_ function: esp_binary, _ a: Tensor, _ b: Tensor) -> Tensor {
        unsafe broadcast(a, b) { unsafe c.f32_binary(function, $0, $1, $2, $3) }
    }

    /// a + b with broadcasting.
    package static func broadcastAdd(_ a: Tensor, _ b: Tensor) -> Tensor {
        unsafe broadcast(a, b) { unsafe c.f32_add($0, $1, $2, $3) }
    }

    private typealias Combination = (
        UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int
    ) -> Void

    private static func broadcast(_ a: Tensor, _ b: Tensor, _ kernel: Combination) -> Tensor {
        if a.shape == b.shape { return unsafe combine(a, b, kernel) }
        guard let shape = a.shape.broadcast(with: b.shape) else {
            fatalError("operands of shapes \(a.shape) and \(b.shape) cannot be broadcast")
        }
        if a.shape == shape, b.shape.isRepeated(in: shape) {
            return unsafe combine(a, repeating: b) { unsafe kernel($0, $1, $2, $3) }
        }
        if b.shape == shape, a.shape.isRepeated(in: shape) {
            return unsafe combine(b, repeating: a) { unsafe kernel($1, $0, $2, $3) }
        }
        return unsafe combine(a.broadcast(to: shape), b.broadcast(to: shape), kernel)
    }

    // An operand that comes again and again as a whole, such as a row or a scalar: some copies of it that stay in the
    // cache meet part after part of the other.
    private static func combine(
        _ x: Tensor, repeating row: Tensor, _ kernel: Combination
    ) -> Tensor {
        guard x.count > 0 else { return x }
        let copies = min(max(1_024 / row.count, 1), x.count / row.count)
        let part = copies * row.count
        let tile = row.reshaped(to: [row.count]).broadcast(to: [copies, row.count])
        return unsafe Tensor(x.shape) { y in
            unsafe reading(x, tile) { source, tile in
                forEachBlock((x.count + part - 1) / part, grain: rowGrain(part)) { at, n in
                    for index in at..<at + n {
                        let start = index * part
                        unsafe kernel(
                            source + start, tile, y + start, min(part, x.count - start))
                    }
                }
            }
        }
    }

    /// da and db of a function of two elements, nil where nobody asks. All shapes are equal.
    package static func binaryGradients(
        _ function: esp_binary, _ a: Tensor, _ b: Tensor, upstream dy: Tensor, needed: [Bool]
    ) -> [Tensor?] {
        require(
            a.shape == b.shape && a.shape == dy.shape,
            "operands of shapes \(a.shape) and \(b.shape), upstream \(dy.shape)")
        var da = needed[0] ? Tensor.zeros(like: a) : Tensor.zeros([0])
        var db = needed[1] ? Tensor.zeros(like: b) : Tensor.zeros([0])
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
        return unsafe Tensor(a.shape, layout: a.layout) { y in
            unsafe reading(condition, a, b) { condition, first, second in
                forEachBlock(a.count) { at, n in
                    unsafe c.f32_select(condition + at, first + at, second + at, y + at, n)
                }
            }
        }
    }
}

extension Shape {
    /// Whether a tensor of this shape is repeated as a whole when it is broadcast to `target`.
    fileprivate func isRepeated(in target: Shape) -> Bool {
        let own = Shape(drop { $0 == 1 })
        return own.rank <= target.rank && own == Shape(target.suffix(own.rank))
    }
}
