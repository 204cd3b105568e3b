import CEspalierKernels
import EspalierKernels
import EspalierTensors

// The steps of a plan. Beside storage and the kernel wrappers, this is where memory is touched: each step knows the
// extents of what it reads and writes from the planner.

/// Floats to codes.
struct QuantizeStep: Step {
    let name = "quantize"
    let source: Slot
    let target: Slot
    /// Elements of an example.
    let count: Int
    let quantizer: esp_quantizer

    var kernel: String { "floats to codes" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index] }

    func run(_ column: borrowing Column) {
        unsafe withUnsafePointer(to: quantizer) {
            unsafe column.kernels.f32_quantize_u8(
                $0, column.source(source), column.codes(target), column.count * count)
        }
    }
}

/// Codes to floats.
struct DequantizeStep: Step {
    let name = "dequantize"
    let source: Slot
    let target: Slot
    /// Elements of an example.
    let count: Int
    let quantizer: esp_quantizer

    var kernel: String { "codes to floats" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index] }

    func run(_ column: borrowing Column) {
        unsafe withUnsafePointer(to: quantizer) {
            unsafe column.kernels.u8_dequantize(
                $0, column.codes(source), column.floats(target), column.count * count)
        }
    }
}

/// A layer of integer weights on codes, dense: to codes or to floats.
struct DenseInt8Step: Step {
    /// What it slides over.
    enum Geometry: Sendable {
        /// A linear layer: pixels of all examples are rows.
        case rows
        /// One image after another, with a slot of scratch.
        case convolution(DenseConvolution, scratch: Slot)
        /// One image after another, tap by tap.
        case window(esp_window)
    }

    let name: String
    let layer: DenseInt8
    let geometry: Geometry
    let source: Slot
    let target: Slot
    let input: PixelLayout
    let output: PixelLayout
    let givesCodes: Bool

    var kernel: String {
        if case .convolution(let convolution, _) = geometry {
            return "INT8 dense, \(convolution.taps) rows of \(convolution.channels)"
        }
        return "INT8 dense"
    }
    var reads: [Int] { [source.index] }
    var writes: [Int] {
        if case .convolution(_, let scratch) = geometry { return [target.index, scratch.index] }
        return [target.index]
    }

    func run(_ column: borrowing Column) {
        let kind = givesCodes ? ESP_OUT_U8 : ESP_OUT_F32
        let pitch = output.channels
        switch geometry {
        case .rows:
            let rows = column.count * input.pixels
            unsafe layer.multiply(
                column.kernels, .linear(rows: rows, channels: input.channels),
                image: column.codes(source), first: 0, count: rows, kind: kind,
                into: result(column, 0), pitch: pitch)
        case .convolution(let convolution, let scratch):
            for example in 0..<column.count {
                unsafe convolution.multiply(
                    column.kernels, layer, image: column.codes(source, example),
                    scratch: column.codes(scratch), kind: kind, into: result(column, example),
                    pitch: pitch)
            }
        case .window(let window):
            for example in 0..<column.count {
                unsafe layer.multiply(
                    column.kernels, window, image: column.codes(source, example), first: 0,
                    count: output.pixels, kind: kind, into: result(column, example), pitch: pitch)
            }
        }
    }

    private func result(_ column: borrowing Column, _ example: Int) -> UnsafeMutableRawPointer {
        unsafe givesCodes
            ? UnsafeMutableRawPointer(column.codes(target, example))
            : UnsafeMutableRawPointer(column.floats(target, example))
    }
}

/// A layer of floats, dense.
struct DenseFloatStep: Step {
    let name: String
    let layer: DenseFloat
    let window: esp_window?
    let source: Slot
    let target: Slot
    let input: PixelLayout
    let output: PixelLayout

    var kernel: String { "float dense" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index] }

    func run(_ column: borrowing Column) {
        guard let window else {
            let rows = column.count * input.pixels
            unsafe layer.multiply(
                column.kernels, .linear(rows: rows, channels: input.channels),
                image: column.source(source),
                first: 0, count: rows, into: column.floats(target), pitch: output.channels)
            return
        }
        for example in 0..<column.count {
            unsafe layer.multiply(
                column.kernels, window, image: column.source(source, example), first: 0,
                count: output.pixels, into: column.floats(target, example), pitch: output.channels)
        }
    }
}

/// The largest code of each window.
struct MaxPoolCodesStep: Step {
    let name: String
    let window: esp_window
    let source: Slot
    let target: Slot
    let output: PixelLayout

    var kernel: String { "codes" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index] }

    func run(_ column: borrowing Column) {
        unsafe withUnsafePointer(to: window) { window in
            for example in 0..<column.count {
                unsafe column.kernels.u8_max_pool(
                    window, column.codes(source, example), column.codes(target, example),
                    output.channels)
            }
        }
    }
}

/// Pooling of floats.
struct PoolFloatsStep: Step {
    enum Kind: Sendable {
        /// With a slot for the places of the largest.
        case largest(Slot)
        case mean(factors: [Float])
    }

    let name: String
    let kind: Kind
    let window: esp_window
    let source: Slot
    let target: Slot

    var kernel: String { "floats" }
    var reads: [Int] { [source.index] }
    var writes: [Int] {
        if case .largest(let slot) = kind { return [target.index, slot.index] }
        return [target.index]
    }

    func run(_ column: borrowing Column) {
        unsafe withUnsafePointer(to: window) { window in
            for example in 0..<column.count {
                let (x, y) = unsafe (
                    column.source(source, example), column.floats(target, example)
                )
                switch kind {
                case .largest(let slot):
                    let places = unsafe UnsafeMutableRawPointer(column.floats(slot, example))
                    unsafe column.kernels.f32_max_pool(
                        window, x, y, places.assumingMemoryBound(to: Int32.self))
                case .mean(let factors):
                    unsafe factors.withUnsafeBufferPointer {
                        unsafe column.kernels.f32_avg_pool(window, x, $0.baseAddress, y)
                    }
                }
            }
        }
    }
}

/// What is done to floats one by one, or row by row. Where source and target are one slot, in place.
struct ElementwiseStep: Step {
    enum Kind: Sendable {
        case relu
        case scale(Float)
        case fakeQuantize(esp_quantizer)
        /// A constant with as many elements as an example.
        case addConstant([Float])
        case add(Slot)
        case softmax(columns: Int, logarithm: Bool)
    }

    let name: String
    let kind: Kind
    let source: Slot
    let target: Slot
    /// Elements of an example.
    let count: Int

    var kernel: String { "floats" }
    var reads: [Int] {
        if case .add(let other) = kind { return [source.index, other.index] }
        return [source.index]
    }
    var writes: [Int] { [target.index] }

    func run(_ column: borrowing Column) {
        let n = column.count * count
        let (x, y) = unsafe (column.source(source), column.floats(target))
        switch kind {
        case .relu: unsafe column.kernels.f32_relu(x, y, n)
        case .scale(let factor): unsafe column.kernels.f32_scale(factor, x, y, n)
        case .fakeQuantize(let quantizer):
            unsafe withUnsafePointer(to: quantizer) {
                unsafe column.kernels.f32_fake_quantize($0, x, y, n)
            }
        case .addConstant(let values):
            unsafe values.withUnsafeBufferPointer { values in
                guard let values = values.baseAddress else { return }
                for example in 0..<column.count {
                    unsafe column.kernels.f32_add(
                        x + example * count, values, y + example * count, count)
                }
            }
        case .add(let other): unsafe column.kernels.f32_add(x, column.source(other), y, n)
        case .softmax(let columns, let logarithm):
            let rows = columns > 0 ? n / columns : 0
            if logarithm {
                unsafe column.kernels.f32_log_softmax(1, x, y, rows, columns)
            } else {
                unsafe column.kernels.f32_softmax(1, x, y, rows, columns)
            }
        }
    }
}
