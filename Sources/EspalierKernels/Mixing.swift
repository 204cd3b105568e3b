import CEspalierKernels
package import EspalierTensors

// Weighted sums of neighbours along an axis.
extension Kernels {
    /// Entry i along the axis is the sum of x's entries from `taps[i].first` on times `taps[i].weights`.
    package static func mix(
        _ x: Tensor, axis: Int, _ taps: [(first: Int, weights: [Float])]
    ) -> Tensor {
        var shape = x.shape
        shape[axis] = taps.count
        requireTaps(taps, below: x.shape[axis])
        var y = Tensor.zeros(shape)
        let (extent, inner) = (x.shape[axis], x.shape[(axis + 1)...].reduce(1, *))
        let outer = x.shape[..<axis].reduce(1, *)
        unsafe x.reading { x in
            unsafe y.writing { y in
                forEachBlock(outer, grain: max(1, grain / max(taps.count * inner, 1))) { at, n in
                    for part in at..<at + n {
                        for (place, tap) in taps.enumerated() {
                            let target = unsafe y + (part * taps.count + place) * inner
                            for (offset, weight) in tap.weights.enumerated() {
                                let source = (part * extent + tap.first + offset) * inner
                                unsafe c.f32_axpy(weight, x + source, target, inner)
                            }
                        }
                    }
                }
            }
        }
        return y
    }

    /// dx of `mix`, whose axis had this extent.
    package static func mixGradient(
        upstream dy: Tensor, axis: Int, _ taps: [(first: Int, weights: [Float])], extent: Int
    ) -> Tensor {
        require(dy.shape[axis] == taps.count, "\(taps.count) sums along \(axis) of \(dy.shape)")
        var shape = dy.shape
        shape[axis] = extent
        requireTaps(taps, below: extent)
        var dx = Tensor.zeros(shape)
        let inner = shape[(axis + 1)...].reduce(1, *)
        let outer = shape[..<axis].reduce(1, *)
        unsafe dy.reading { dy in
            unsafe dx.writing { dx in
                forEachBlock(outer, grain: max(1, grain / max(taps.count * inner, 1))) { at, n in
                    for part in at..<at + n {
                        for (place, tap) in taps.enumerated() {
                            let source = unsafe dy + (part * taps.count + place) * inner
                            for (offset, weight) in tap.weights.enumerated() {
                                let target = (part * extent + tap.first + offset) * inner
                                unsafe c.f32_axpy(weight, source, dx + target, inner)
                            }
                        }
                    }
                }
            }
        }
        return dx
    }

    private static func requireTaps(
        _ taps: [(first: Int, weights: [Float])], below extent: Int
    ) {
        require(
            taps.allSatisfy { $0.first >= 0 && $0.first + $0.weights.count <= extent },
            "neighbours outside an axis of \(extent)")
    }
}
