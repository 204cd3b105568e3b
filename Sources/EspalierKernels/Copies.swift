import CEspalierKernels
package import EspalierTensors

// What moves elements along one axis: tensors read as [outer, axis, inner].
extension Kernels {
    /// The extents before, at and after an axis.
    private static func split(_ shape: Shape, _ axis: Int) -> (outer: Int, extent: Int, inner: Int)
    {
        (shape[..<axis].reduce(1, *), shape[axis], shape[(axis + 1)...].reduce(1, *))
    }

    /// Sums of all elements up to each along an axis, or from each on.
    package static func cumulativeSum(_ x: Tensor, axis: Int, reversed: Bool = false) -> Tensor {
        let (outer, extent, inner) = split(x.shape, axis)
        return unsafe Tensor(x.shape) { y in
            unsafe x.reading { x in
                forEachBlock(outer, grain: rowGrain(extent * inner)) { at, n in
                    for part in at..<at + n {
                        let first = part * extent * inner
                        unsafe c.f32_cumulative_sum(
                            reversed, x + first, y + first, extent, inner)
                    }
                }
            }
        }
    }

    /// The entries of an axis by number, in the order of `indices`; zeros for a negative one.
    ///
    /// [outer, axis, inner] -> [outer, indices, inner], of the shape given.
    package static func take(_ x: Tensor, axis: Int, _ indices: [Int32], shape: Shape) -> Tensor {
        let (outer, extent, inner) = split(x.shape, axis)
        let count = indices.count
        requireIndices(indices, below: extent, x.shape)
        return unsafe Tensor(shape) { y in
            unsafe reading(x, indices) { x, indices in
                forEachBlock(outer * count, grain: rowGrain(inner)) { at, n in
                    // A chunk may begin and end inside a part.
                    var row = at
                    while row < at + n {
                        let (part, first) = (row / count, row % count)
                        let rows = min(count - first, at + n - row)
                        unsafe c.f32_take(
                            indices + first, x + part * extent * inner, y + row * inner, rows, inner
                        )
                        row += rows
                    }
                }
            }
        }
    }

    /// dx of `take`: what was read several times gets the sum. `shape` is that of x.
    package static func takeGradient(
        upstream dy: Tensor, axis: Int, _ indices: [Int32], shape: Shape
    ) -> Tensor {
        let (outer, extent, inner) = split(shape, axis)
        let count = indices.count
        var dx = zeros(shape)
        // A strip of columns belongs to one thread, which adds its rows in order: the same bytes for any number of
        // threads.
        let strip = 64
        let strips = (inner + strip - 1) / strip
        unsafe dx.writing { dx in
            unsafe reading(dy, indices) { dy, indices in
                forEachBlock(outer * strips, grain: rowGrain(count * min(inner, strip))) { at, n in
                    for index in at..<at + n {
                        let (part, first) = (index / strips, index % strips * strip)
                        unsafe c.f32_take_gradient(
                            indices, dy + part * count * inner + first,
                            dx + part * extent * inner + first, count, min(strip, inner - first),
                            inner)
                    }
                }
            }
        }
        return dx
    }

    /// The element of x at the place along an axis that each index says. `indices` has the result's shape, which
    /// differs from that of x along the axis only.
    package static func gather(_ x: Tensor, axis: Int, _ indices: IndexTensor) -> Tensor {
        let (outer, extent, inner) = split(x.shape, axis)
        let count = indices.shape[axis]
        requireIndices(indices.elements, from: 0, below: extent, x.shape)
        return unsafe Tensor(indices.shape) { y in
            unsafe reading(x, indices.elements) { x, indices in
                forEachBlock(outer, grain: rowGrain(count * inner)) { at, n in
                    for part in at..<at + n {
                        let first = part * count * inner
                        unsafe c.f32_gather(
                            indices + first, x + part * extent * inner, y + first, count, inner)
                    }
                }
            }
        }
    }

    /// Adds each element of `source` to y at the place along an axis that its index says, in order.
    package static func scatterAdd(
        _ source: Tensor, axis: Int, _ indices: IndexTensor, to y: inout Tensor
    ) {
        let (outer, extent, inner) = split(y.shape, axis)
        let count = indices.shape[axis]
        requireIndices(indices.elements, from: 0, below: extent, y.shape)
        unsafe y.writing { y in
            unsafe reading(source, indices.elements) { source, indices in
                forEachBlock(outer, grain: rowGrain(count * inner)) { at, n in
                    for part in at..<at + n {
                        let first = part * count * inner
                        unsafe c.f32_scatter_add(
                            indices + first, source + first, y + part * extent * inner, count, inner
                        )
                    }
                }
            }
        }
    }

    /// Copies `source` into the box of y that begins at `start` and goes in `steps`, its elements in order.
    package static func put(_ source: Tensor, into y: inout Tensor, start: [Int], steps: [Int]) {
        let strides = y.shape.strides
        let offset = zip(start, strides).reduce(0) { $0 + $1.0 * $1.1 }
        let copy = StridedCopy(
            source.shape, from: source.shape.strides, to: zip(strides, steps).map { $0 * $1 })
        guard source.count > 0 else { return }
        unsafe y.writing { y in unsafe source.reading { unsafe copy.run($0, y + offset) } }
    }

    /// x where the column is at most `diagonal` right of the row's number, or at least, and elsewhere 0.
    /// [..., rows, columns]
    package static func triangle(_ x: Tensor, diagonal: Int, isLower: Bool) -> Tensor {
        let (rows, columns) = (x.shape[x.shape.rank - 2], x.shape[x.shape.rank - 1])
        var y = Tensor.zeros(x.shape)
        unsafe y.writing { y in
            unsafe x.reading { source in
                forEachBlock(x.count / max(columns, 1), grain: rowGrain(columns)) { at, n in
                    for row in at..<at + n {
                        let edge = row % rows + diagonal + (isLower ? 1 : 0)
                        let cut = min(max(edge, 0), columns)
                        let live = isLower ? 0..<cut : cut..<columns
                        let first = row * columns + live.lowerBound
                        unsafe (y + first).update(from: source + first, count: live.count)
                    }
                }
            }
        }
        return y
    }

    private static func requireIndices(
        _ indices: [Int32], from first: Int32 = .min, below extent: Int, _ shape: Shape
    ) {
        guard let low = indices.min(), let high = indices.max() else { return }
        require(
            low >= first && high < extent,
            "indices \(low)...\(high) along an axis of \(extent) of \(shape)")
    }

    private static func reading(
        _ x: Tensor, _ indices: [Int32],
        _ body: (UnsafePointer<Float>, UnsafePointer<Int32>) -> Void
    ) {
        unsafe x.reading { x in
            unsafe indices.withUnsafeBufferPointer { indices in
                guard let indices = indices.baseAddress else { return }
                unsafe body(x, indices)
            }
        }
    }
}

// MARK: - Half precision

extension Kernels {
    /// A float format of 16 bits.
    package enum Half: Sendable, CaseIterable {
        /// IEEE binary16: 5 bits of exponent, 10 of fraction.
        case float16
        /// The upper half of a float: 8 bits of exponent, 7 of fraction.
        case bfloat16
    }

    /// The bits of each element in a format of 16 bits, rounded half to even.
    package static func halves(_ x: Tensor, _ format: Half) -> [UInt16] {
        unsafe [UInt16](unsafeUninitializedCapacity: x.count) { buffer, initialized in
            if let y = buffer.baseAddress {
                unsafe x.reading { x0 in
                    forEachBlock(x.count) { at, n in
                        switch format {
                        case .float16: unsafe c.f32_to_f16(x0 + at, y + at, n)
                        case .bfloat16: unsafe c.f32_to_bf16(x0 + at, y + at, n)
                        }
                    }
                }
            }
            initialized = x.count
        }
    }

    /// The values of bits in a format of 16 bits.
    package static func floats(_ bits: [UInt16], _ format: Half, shape: Shape) -> Tensor {
        require(bits.count == shape.elementCount, "\(bits.count) halves for \(shape)")
        return unsafe Tensor(shape) { y in
            unsafe bits.withUnsafeBufferPointer { buffer in
                guard let x = buffer.baseAddress else { return }
                forEachBlock(buffer.count) { at, n in
                    switch format {
                    case .float16: unsafe c.f16_to_f32(x + at, y + at, n)
                    case .bfloat16: unsafe c.bf16_to_f32(x + at, y + at, n)
                    }
                }
            }
        }
    }
}
