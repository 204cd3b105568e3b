import CEspalierKernels
import EspalierGraph
package import EspalierKernels
import EspalierTensors

/// Every matrix product of the engine: our own kernels where they are faster, else OpenBLAS.
package enum Products {
    /// Whether our own are used: on AVX-512 they reach 95 % of the peak and more, and need no copy of a small product's
    /// factors. Otherwise OpenBLAS is no slower.
    package static let usesOwn: Bool = ISA.current == .avx512 || ISA.current == .vnni

    /// What becomes of a part of a product as soon as it is done.
    @unsafe struct Epilogue {
        let activation: Op.Linear.Activation
        let z: UnsafeMutablePointer<Float>
        let y: UnsafeMutablePointer<Float>
        let pitch: Int

        func apply(_ rows: Range<Int>, _ columns: Range<Int>) {
            let isWhole = unsafe columns.count == pitch
            let count = isWhole ? rows.count * columns.count : columns.count
            for row in isWhole ? rows.prefix(1) : rows {
                let at = unsafe row * pitch + columns.lowerBound
                unsafe activation.apply(z + at, y + at, count)
            }
        }
    }

    /// C = A B over the pool. The order of each sum depends on the three extents alone.
    package static func multiply(
        _ a: MatrixOperand, _ b: MatrixOperand, into c: UnsafeMutablePointer<Float>, pitch: Int,
        rows: Int, columns: Int, depth: Int, precision: Precision = .float,
        halves: HalfProducts = .chosen, bias: UnsafePointer<Float>? = nil,
        rowSums: UnsafeMutablePointer<Float>? = nil,
        finish: (Range<Int>, Range<Int>) -> Void = { _, _ in }
    ) {
        if !usesOwn, precision == .float, unsafe rowSums == nil {
            unsafe BLAS.multiplyTiled(
                a, b, into: c, pitch: pitch, rows: rows, columns: columns, depth: depth)
            let kernels = unsafe KernelTable.current
            ThreadPool.shared.forEachRange(rows, grain: max(16_384 / max(columns, 1), 1)) { rows in
                if let bias = unsafe bias {
                    for row in rows {
                        let row = unsafe c + row * pitch
                        unsafe kernels.f32_add(bias, row, row, columns)
                    }
                }
                finish(rows, 0..<columns)
            }
            return
        }
        var product = unsafe Product(a, b, rows: rows, columns: columns, depth: depth)
        unsafe product.isRounded = precision == .bf16
        unsafe product.halves = halves
        unsafe product.bias = unsafe bias
        unsafe product.rowSums = unsafe rowSums
        unsafe product.multiply(into: c, pitch: pitch, finish: finish)
    }

    /// A product of two tensors read as matrices: a is [rows, depth], b is [depth, columns], or their transposes. The
    /// result has `shape`, which holds rows * columns elements.
    static func product(
        _ a: Tensor, transposesA: Bool = false, _ b: Tensor, transposesB: Bool = false, rows: Int,
        columns: Int, depth: Int, shape: Shape, precision: Precision
    ) -> Tensor {
        unsafe Tensor(shape) { result in
            unsafe reading(a, b) { a, b in
                unsafe multiply(
                    MatrixOperand(a, pitch: transposesA ? rows : depth, transposed: transposesA),
                    MatrixOperand(b, pitch: transposesB ? depth : columns, transposed: transposesB),
                    into: result, pitch: columns, rows: rows, columns: columns, depth: depth,
                    precision: precision)
            }
        }
    }

    /// A linear layer: z = x Wᵀ + b and y = f(z), of which z only where the gradient needs it; without an activation y
    /// is z. [rows, depth], [columns, depth], [columns] -> [rows, columns], or of `shape`
    static func linear(
        _ x: Tensor, _ weight: Tensor, _ bias: Tensor?, activation: Op.Linear.Activation?,
        shape: Shape, precision: Precision
    ) -> (y: Tensor, z: Tensor?) {
        let (columns, depth) = (weight.shape[0], weight.shape[1])
        let rows = shape.dropLast().reduce(1, *)
        func compute(
            _ z: UnsafeMutablePointer<Float>, _ y: UnsafeMutablePointer<Float>,
            _ bias: UnsafePointer<Float>?
        ) {
            unsafe reading(x, weight) { x, weight in
                let epilogue = unsafe activation.map {
                    unsafe Epilogue(activation: $0, z: z, y: y, pitch: columns)
                }
                unsafe multiply(
                    MatrixOperand(x, pitch: depth),
                    MatrixOperand(weight, pitch: depth, transposed: true), into: z, pitch: columns,
                    rows: rows, columns: columns, depth: depth, precision: precision, bias: bias
                ) { unsafe epilogue?.apply($0, $1) }
            }
        }
        func compute(_ z: UnsafeMutablePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
            guard let bias else { return unsafe compute(z, y, nil) }
            unsafe bias.reading { unsafe compute(z, y, $0) }
        }
        guard let activation, !activation.derivesFromResult else {
            return (unsafe Tensor(shape) { unsafe compute($0, $0) }, nil)
        }
        var y: Tensor?
        let z = unsafe Tensor(shape) { z in
            y = unsafe Tensor(shape) { unsafe compute(z, $0) }
        }
        return (y ?? z, z)
    }

    /// The gradient for a weight, dYᵀ X, and where it is asked for the one for the bias, the column sums of dY.
    /// [rows, outputs], [rows, inputs] -> [outputs, inputs], [outputs]
    static func weightGradient(
        _ dy: Tensor, _ x: Tensor, shape: Shape, needsBias: Bool, precision: Precision
    ) -> (weight: Tensor, bias: Tensor?) {
        let (outputs, depth) = (shape[0], shape[1])
        let rows = dy.shape.dropLast().reduce(1, *)
        func weight(_ sums: UnsafeMutablePointer<Float>?) -> Tensor {
            unsafe Tensor(shape) { result in
                unsafe reading(dy, x) { dy, x in
                    unsafe multiply(
                        MatrixOperand(dy, pitch: outputs, transposed: true),
                        MatrixOperand(x, pitch: depth), into: result, pitch: depth, rows: outputs,
                        columns: depth, depth: rows, precision: precision, rowSums: sums)
                }
            }
        }
        // While the product has dY at hand; the sums of rounded ones would be others.
        guard needsBias, usesOwn, precision == .float, depth > 0 else {
            return (weight(nil), needsBias ? Kernels.columnSums(dy) : nil)
        }
        var result: Tensor?
        let bias = unsafe Tensor([outputs]) { result = unsafe weight($0) }
        return (result ?? weight(nil), bias)
    }

    /// The products of the matrices in the last two axes, those before broadcast. [..., m, k], [..., k, n]
    static func batched(
        _ a: Tensor, _ transposesA: Bool, _ b: Tensor, _ transposesB: Bool, _ precision: Precision
    ) -> Tensor {
        let (rows, depth) = Op.MatMul.matrix(a.shape, isTransposed: transposesA)
        let columns = Op.MatMul.matrix(b.shape, isTransposed: transposesB).columns
        let (first, second) = (Shape(a.shape.dropLast(2)), Shape(b.shape.dropLast(2)))
        guard let batch = first.broadcast(with: second) else {
            fatalError("matmul: \(a.shape) does not fit \(b.shape)")
        }
        let shape = Shape(batch + [rows, columns])
        // One matrix on the right: the batch is more rows.
        if second.rank == 0, first.rank > 0, !transposesA {
            return product(
                a, b, transposesB: transposesB, rows: shape.dropLast().reduce(1, *),
                columns: columns, depth: depth, shape: shape, precision: precision)
        }
        let placesA = first.positions(in: batch)
        let placesB = second.positions(in: batch)
        let halves = HalfProducts.chosen
        let (pitchA, pitchB) = (transposesA ? rows : depth, transposesB ? depth : columns)
        return unsafe Tensor(shape) { result in
            unsafe reading(a, b) { a, b in
                func multiply(_ index: Int) {
                    unsafe Products.multiply(
                        MatrixOperand(
                            a + placesA[index] * rows * depth, pitch: pitchA,
                            transposed: transposesA),
                        MatrixOperand(
                            b + placesB[index] * depth * columns, pitch: pitchB,
                            transposed: transposesB),
                        into: result + index * rows * columns, pitch: columns, rows: rows,
                        columns: columns, depth: depth, precision: precision, halves: halves)
                }
                // Few large ones are shared out one after another, else each is computed by one thread: a loop inside
                // a loop runs where it is.
                if placesA.count < 8 {
                    for index in placesA.indices { multiply(index) }
                } else {
                    ThreadPool.shared.forEachChunk(placesA.count) { multiply($0) }
                }
            }
        }
    }
}

extension Op.Linear.Activation {
    /// Whether the gradient is computed from y and not from z.
    var derivesFromResult: Bool {
        switch self {
        case .relu: true
        case .unary(let function): esp_derives_from_result(function.code)
        }
    }

    /// Whether result and derivative are finite for finite operands.
    var staysFinite: Bool {
        switch self {
        case .relu: true
        case .unary(let function): function.staysFinite
        }
    }

    func apply(_ z: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
        let kernels = unsafe KernelTable.current
        switch self {
        case .relu: unsafe kernels.f32_relu(z, y, count)
        case .unary(let function):
            unsafe kernels.f32_unary(function.code, function.p, function.q, z, y, count)
        }
    }

    /// dz from dy and y or z, whichever the gradient is computed from.
    func gradient(_ saved: Tensor, upstream: Tensor) -> Tensor {
        switch self {
        case .relu: Kernels.reluGradient(output: saved, upstream: upstream)
        case .unary(let function):
            Kernels.unaryGradient(
                function.code, p: function.p, q: function.q, saved: saved, upstream: upstream)
        }
    }
}

extension Op.Unary.Function {
    var p: Float { parameters.first ?? 0 }
    var q: Float { parameters.count > 1 ? parameters[1] : 0 }
}

extension Shape {
    /// Which element of this shape each element of a shape that it is broadcast to is.
    fileprivate func positions(in target: Shape) -> [Int] {
        guard let strides = broadcastStrides(to: target) else {
            fatalError("\(self) is not broadcast to \(target)")
        }
        var result = [0]
        for (extent, stride) in zip(target, strides) {
            result = result.flatMap { first in (0..<extent).map { first + $0 * stride } }
        }
        return result
    }
}
