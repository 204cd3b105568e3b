import CEspalierKernels
package import EspalierTensors

// Layer norm with what stands before and behind it, in one pass over memory each way.
extension Kernels {
    /// The rows of x, or of x + residual, normalized over the last `axisCount` axes, then scaled and shifted; with the
    /// normalized rows themselves where they are kept, and one over the deviation of each row.
    package static func layerNorm(
        _ x: Tensor, residual: Tensor?, scale: Tensor?, shift: Tensor?, axisCount: Int,
        isCentred: Bool, epsilon: Float, keepsNormal: Bool
    ) -> (result: Tensor, normal: Tensor?, inverse: Tensor) {
        let columns = x.shape.suffix(axisCount).reduce(1, *)
        let rows = columns == 0 ? 0 : x.count / columns
        require(residual.map { $0.shape == x.shape } ?? true, "a residual of \(x.shape)")
        var inverse = Tensor.zeros([rows])
        func run(_ normal: UnsafeMutablePointer<Float>?, _ y: UnsafeMutablePointer<Float>?) {
            unsafe inverse.writing { inverse in
                unsafe x.reading { x in
                    unsafe readingAny(residual) { residual in
                        unsafe readingAny(scale) { scale in
                            unsafe readingAny(shift) { shift in
                                forEachBlock(rows, grain: rowGrain(columns)) { row, n in
                                    let at = row * columns
                                    unsafe c.f32_layer_norm(
                                        isCentred, epsilon, x + at,
                                        residual.map { unsafe $0 + at }, scale, shift,
                                        normal.map { unsafe $0 + at }, inverse + row,
                                        y.map { unsafe $0 + at }, n, columns)
                                }
                            }
                        }
                    }
                }
            }
        }
        let (result, normal) = unsafe normResults(
            x.shape, keepsNormal: keepsNormal, isScaled: scale != nil, run)
        return (result, normal, inverse)
    }

    /// What a norm gives and, where they are kept, its normalized rows, from what writes both: one tensor where nothing
    /// scales them.
    static func normResults(
        _ shape: Shape, keepsNormal: Bool, isScaled: Bool,
        _ run: (_ normal: UnsafeMutablePointer<Float>?, _ y: UnsafeMutablePointer<Float>?) -> Void
    ) -> (result: Tensor, normal: Tensor?) {
        guard keepsNormal else { return unsafe (Tensor(shape) { unsafe run(nil, $0) }, nil) }
        guard isScaled else {
            let normal = unsafe Tensor(shape) { unsafe run($0, nil) }
            return (normal, normal)
        }
        var normal: Tensor?
        let result = unsafe Tensor(shape) { y in
            normal = unsafe Tensor(shape) { unsafe run($0, y) }
        }
        return (result, normal)
    }

    /// The gradients of `layerNorm` for x (and its residual), scale and shift, nil where nobody asks.
    ///
    /// The sums over rows are those of fixed ranges of rows, added in order: the same for any number of threads.
    package static func layerNormGradients(
        normal: Tensor, inverse: Tensor, scale: Tensor?, upstream dy: Tensor, isCentred: Bool,
        needsInput: Bool, needsScale: Bool, needsShift: Bool
    ) -> (input: Tensor?, scale: Tensor?, shift: Tensor?) {
        let rows = inverse.count
        let columns = rows == 0 ? scale?.count ?? 0 : normal.count / rows
        let grain = max(rowGrain(columns), (rows + 31) / 32)
        let chunks = (rows + grain - 1) / grain
        var scaleSums = Tensor.zeros([needsScale ? chunks : 0, columns])
        var shiftSums = Tensor.zeros([needsShift ? chunks : 0, columns])
        func run(_ dx: UnsafeMutablePointer<Float>?) {
            unsafe scaleSums.writing { scaleSums in
                unsafe shiftSums.writing { shiftSums in
                    unsafe reading(normal, inverse, dy) { normal, inverse, dy in
                        unsafe readingAny(scale) { scale in
                            forEachBlock(rows, grain: grain) { row, n in
                                let (at, sums) = (row * columns, row / grain * columns)
                                unsafe c.f32_layer_norm_gradient(
                                    isCentred, normal + at, inverse + row, scale, dy + at,
                                    dx.map { unsafe $0 + at }, needsScale ? scaleSums + sums : nil,
                                    needsShift ? shiftSums + sums : nil, n, columns)
                            }
                        }
                    }
                }
            }
        }
        var dx: Tensor?
        if needsInput { dx = unsafe Tensor(dy.shape) { unsafe run($0) } } else { run(nil) }
        return (
            dx, needsScale ? columnSums(scaleSums) : nil, needsShift ? columnSums(shiftSums) : nil
        )
    }
}
