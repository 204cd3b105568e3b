package import CEspalierKernels
package import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

// Steps of optimizers over all parameters at once.
extension Kernels {
    /// A step's rule with what is the same for all elements of one parameter.
    package enum UpdateRule {
        /// State: the momentum, or nil.
        case sgd(esp_sgd)
        /// State: the first and the second moment.
        case adamW(esp_adamw)
        /// State: the first, the second and the largest second moment, the last one perhaps nil.
        case adam(esp_adam)
        /// State: the sum of the squares.
        case adaGrad(esp_adagrad)
        /// State: the mean square, the mean and the momentum, the last two perhaps nil.
        case rmsProp(esp_rmsprop)
    }

    /// One parameter's step.
    package struct Update {
        package let rule: UpdateRule
        /// As the value lies, or some rows of it where the others are zero.
        package let gradient: Tensor
        package var value: Tensor
        package var state: [Tensor?]
        /// Where value and state stay +0; nil for none.
        package let mask: [UInt64]?

        package init(
            rule: UpdateRule, gradient: Tensor, value: Tensor, state: [Tensor?], mask: [UInt64]?
        ) {
            self.rule = rule
            self.gradient = gradient
            self.value = value
            self.state = state
            self.mask = mask
        }

        fileprivate func check() {
            require(
                gradient.shape == value.shape
                    && (gradient.layout == value.layout
                        || SomeRows.held(by: gradient) != nil && value.layout == .rowMajor),
                "gradient \(gradient.shape) of \(value.shape)")
            for tensor in state {
                require(
                    tensor.map { $0.shape == value.shape && $0.layout == value.layout } ?? true,
                    "state of \(value.shape)")
            }
            require(
                mask.map { $0.count * 64 >= value.count } ?? true, "a mask for \(value.shape)")
        }
    }

    // Where an update's tensors lie.
    @unsafe private struct Places {
        let value: UnsafeMutablePointer<Float>
        let state: [UnsafeMutablePointer<Float>?]
    }

    /// Steps of all parameters, in place, in one loop over all their elements: each is read and written once.
    package static func update(_ updates: inout [Update]) {
        var places: [Places] = unsafe []
        var chunks: [(update: Int, start: Int)] = []
        for index in updates.indices {
            updates[index].check()
            // Nobody else holds these tensors then, and nothing takes them from `updates` before the loop is over: the
            // addresses stay good.
            let value = unsafe updates[index].value.writing { unsafe $0 }
            let state = unsafe updates[index].state.indices.map { slot in
                unsafe updates[index].state[slot]?.writing { unsafe $0 }
            }
            unsafe places.append(unsafe Places(value: value, state: state))
            let count = updates[index].value.count
            chunks += stride(from: 0, to: count, by: grain).map { (index, $0) }
        }
        let all = updates
        // What stands for rows of a gradient that are not held.
        let zeros = Tensor.zeros([
            all.contains { SomeRows.held(by: $0.gradient) != nil } ? grain : 0
        ])
        ThreadPool.shared.forEachChunk(chunks.count) { chunk in
            let (index, start) = chunks[chunk]
            let update = all[index]
            let count = min(grain, update.value.count - start)
            unsafe reading(update.gradient, zeros) { gradient, zeros in
                if let rows = SomeRows.held(by: update.gradient) {
                    rows.forEachPart(from: start, count: count) { at, count, held in
                        unsafe step(
                            update.rule, places[index], at,
                            held.map { unsafe gradient + $0 } ?? zeros, count)
                    }
                } else {
                    unsafe step(update.rule, places[index], start, gradient + start, count)
                }
            }
            unsafe mask(update, places[index], start, count)
        }
        withExtendedLifetime(all) {}
    }

    private static func step(
        _ rule: UpdateRule, _ places: Places, _ at: Int, _ gradient: UnsafePointer<Float>,
        _ count: Int
    ) {
        let value = unsafe places.value + at
        func state(_ slot: Int) -> UnsafeMutablePointer<Float>? {
            unsafe places.state[slot].map { unsafe $0 + at }
        }
        switch rule {
        case .sgd(var rule):
            unsafe c.f32_sgd(&rule, gradient, value, state(0), count)
        case .adamW(var rule):
            unsafe c.f32_adamw(&rule, gradient, value, state(0), state(1), count)
        case .adam(var rule):
            unsafe c.f32_adam(&rule, gradient, value, state(0), state(1), state(2), count)
        case .adaGrad(var rule):
            unsafe c.f32_adagrad(&rule, gradient, value, state(0), count)
        case .rmsProp(var rule):
            unsafe c.f32_rmsprop(&rule, gradient, value, state(0), state(1), state(2), count)
        }
    }

    private static func mask(_ update: Update, _ places: Places, _ at: Int, _ count: Int) {
        guard let mask = update.mask else { return }
        let value = unsafe places.value + at
        unsafe mask.withUnsafeBufferPointer { words in
            guard let words = words.baseAddress else { return }
            // The grain is a multiple of 64: chunks begin at a word.
            unsafe c.f32_mask(words + at / 64, value, value, count)
            for slot in unsafe places.state.indices {
                guard let tensor = unsafe places.state[slot] else { continue }
                unsafe c.f32_mask(words + at / 64, tensor + at, tensor + at, count)
            }
        }
    }

    /// The sum of all squares of each tensor, in one loop over all their elements. Chunks are summed in order.
    package static func sumsOfSquares(_ tensors: [Tensor]) -> [Double] {
        let chunks = tensors.indices.flatMap { index in
            stride(from: 0, to: tensors[index].count, by: grain).map { (index, $0) }
        }
        var partials = [Double](repeating: 0, count: chunks.count)
        unsafe partials.withUnsafeMutableBufferPointer { buffer in
            let partials = unsafe buffer
            ThreadPool.shared.forEachChunk(chunks.count) { chunk in
                let (index, start) = chunks[chunk]
                unsafe tensors[index].reading { x in
                    unsafe partials[chunk] = unsafe c.f32_sum_squares(
                        x + start, min(grain, tensors[index].count - start))
                }
            }
        }
        var sums = [Double](repeating: 0, count: tensors.count)
        for (chunk, partial) in zip(chunks, partials) { sums[chunk.0] += partial }
        return sums
    }

    /// The p-norm of all elements together, from the sum of the powers of their magnitudes in double precision.
    package static func sumOfPowers(_ x: Tensor, _ power: Double) -> Double {
        let elements = x.span
        var sum = 0.0
        for index in elements.indices { sum += pow(Double(abs(elements[index])), power) }
        return sum
    }
}
