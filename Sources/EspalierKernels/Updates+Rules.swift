package import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

// Optimizer steps that are plain loops over elements; the compiler vectorizes them.
extension Kernels {
    /// Adam's step with what is the same for all elements.
    package struct Adam {
        package let beta1, beta2, epsilon, decay: Float
        /// The rate over the first moment's correction, and the root of the second's.
        package let step, root: Float

        package init(
            beta1: Float, beta2: Float, epsilon: Float, decay: Float, step: Float, root: Float
        ) {
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
            self.decay = decay
            self.step = step
            self.root = root
        }
    }

    /// One step of Adam. With `largest`, the largest second moment so far takes the second moment's place.
    package static func adam(
        _ rule: Adam, gradient: Tensor, value: inout Tensor, first: inout Tensor,
        second: inout Tensor, largest: inout Tensor?
    ) {
        guard largest != nil else {
            var none = Tensor.zeros([0])
            unsafe forEachBlock(gradient, &value, &first, &second, &none, uses: 2) {
                unsafe step(rule, $0, $1, $2, $3, nil, $5)
            }
            return
        }
        var own = largest.take() ?? Tensor.zeros(gradient.shape)
        unsafe forEachBlock(gradient, &value, &first, &second, &own, uses: 3) {
            unsafe step(rule, $0, $1, $2, $3, $4, $5)
        }
        largest = own
    }

    private static func step(
        _ rule: Adam, _ gradient: UnsafePointer<Float>, _ value: UnsafeMutablePointer<Float>,
        _ first: UnsafeMutablePointer<Float>, _ second: UnsafeMutablePointer<Float>,
        _ largest: UnsafeMutablePointer<Float>?, _ count: Int
    ) {
        for i in 0..<count {
            let g = unsafe gradient[i] + rule.decay * value[i]
            let m = unsafe rule.beta1 * first[i] + (1 - rule.beta1) * g
            let v = unsafe rule.beta2 * second[i] + (1 - rule.beta2) * g * g
            unsafe first[i] = m
            unsafe second[i] = v
            var top = v
            if let largest = unsafe largest {
                top = unsafe max(largest[i], v)
                unsafe largest[i] = top
            }
            unsafe value[i] -= rule.step * m / (top.squareRoot() / rule.root + rule.epsilon)
        }
    }

    /// One step of AdaGrad: `sum` gathers the squares of the gradients.
    package static func adaGrad(
        rate: Float, epsilon: Float, decay: Float, gradient: Tensor, value: inout Tensor,
        sum: inout Tensor
    ) {
        var (none, other) = (Tensor.zeros([0]), Tensor.zeros([0]))
        unsafe forEachBlock(gradient, &value, &sum, &none, &other, uses: 1) {
            gradient, value, sum, _, _, count in
            for i in 0..<count {
                let g = unsafe gradient[i] + decay * value[i]
                let total = unsafe sum[i] + g * g
                unsafe sum[i] = total
                unsafe value[i] -= rate * g / (total.squareRoot() + epsilon)
            }
        }
    }

    /// A step of RMSProp's direction: the gradient over the root of its mean square, about its mean where `mean` is not
    /// nil; `value` is left alone and the direction returned.
    package static func rmsDirection(
        smoothing: Float, epsilon: Float, decay: Float, gradient: Tensor, value: Tensor,
        square: inout Tensor, mean: inout Tensor?
    ) -> Tensor {
        // Begins as the value and becomes the direction in place.
        var direction = value
        let isCentred = mean != nil
        var own = mean.take() ?? Tensor.zeros([0])
        var none = Tensor.zeros([0])
        unsafe forEachBlock(
            gradient, &direction, &square, &own, &none, uses: isCentred ? 2 : 1
        ) { gradient, value, square, mean, _, count in
            for i in 0..<count {
                let g = unsafe gradient[i] + decay * value[i]
                let s = unsafe smoothing * square[i] + (1 - smoothing) * g * g
                unsafe square[i] = s
                var spread = s
                if isCentred {
                    let m = unsafe smoothing * mean[i] + (1 - smoothing) * g
                    unsafe mean[i] = m
                    // Rounding may take a spread of 0 below it.
                    spread = max(s - m * m, 0)
                }
                unsafe value[i] = g / (spread.squareRoot() + epsilon)
            }
        }
        if isCentred { mean = own }
        return direction
    }

    /// The p-norm of all elements together, from the sum of the powers of their magnitudes in double precision.
    package static func sumOfPowers(_ x: Tensor, _ power: Double) -> Double {
        let elements = x.span
        var sum = 0.0
        for index in elements.indices { sum += pow(Double(abs(elements[index])), power) }
        return sum
    }

    /// Blocks of the gradient, the value and `uses` tensors of state; pointers to unused state are to nothing.
    private static func forEachBlock(
        _ gradient: Tensor, _ value: inout Tensor, _ a: inout Tensor, _ b: inout Tensor,
        _ c: inout Tensor, uses: Int,
        _ body: (
            UnsafePointer<Float>, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>,
            UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, Int
        ) -> Void
    ) {
        let count = value.count
        require(gradient.shape == value.shape, "gradient \(gradient.shape) of \(value.shape)")
        require(
            a.count == count && (uses < 2 || b.count == count) && (uses < 3 || c.count == count),
            "state of \(value.shape)")
        unsafe gradient.reading { gradient in
            unsafe value.writing { value in
                unsafe a.writing { a in
                    unsafe b.writing { b in
                        unsafe c.writing { c in
                            forEachBlock(count) { at, n in
                                unsafe body(
                                    gradient + at, value + at, a + at,
                                    uses < 2 ? b : b + at, uses < 3 ? c : c + at, n)
                            }
                        }
                    }
                }
            }
        }
    }
}
