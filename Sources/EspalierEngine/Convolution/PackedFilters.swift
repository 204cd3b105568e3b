import CEspalierKernels
import EspalierGraph
import EspalierTensors

/// Weights [out, kh, kw, in] as the kernels of `TapConvolution` and `WinogradConvolution` read them.
struct PackedFilters {
    /// Panels of 32 outputs, the last one of 16 where at most 16 are left; in each [taps][depth][width].
    let panels: Tensor

    /// The columns of so many outputs with those that fill up the last panel.
    static func paddedWidth(_ outputs: Int) -> Int { (outputs + 15) / 16 * 16 }

    /// What part of a weight becomes panels: element (tap, k, n) at taps[tap] + k depthStep + n outputStep.
    struct Source {
        let taps: [Int]
        let depth: Int
        let depthStep: Int
        let outputs: Int
        let outputStep: Int
        var offset = 0
    }

    /// Packs several parts, one behind the other.
    init(_ weight: Tensor, _ sources: [Source]) {
        let sizes = sources.map {
            $0.taps.count * $0.depth * PackedFilters.paddedWidth($0.outputs)
        }
        let kernels = unsafe KernelTable.current
        panels = unsafe Tensor([sizes.reduce(0, +)]) { target in
            unsafe weight.reading { weight in
                var to = unsafe target
                for (source, size) in zip(sources, sizes) {
                    unsafe PackedFilters.pack(kernels, weight + source.offset, source, to: to)
                    unsafe to += size
                }
            }
        }
    }

    private static func pack(
        _ kernels: esp_kernels, _ weight: UnsafePointer<Float>, _ source: Source,
        to target: UnsafeMutablePointer<Float>
    ) {
        let block = source.taps.count * source.depth
        for panel in stride(from: 0, to: source.outputs, by: 32) {
            let count = min(source.outputs - panel, 32)
            let width = paddedWidth(count)
            let to = unsafe target + panel * block
            if count < width { unsafe to.update(repeating: 0, count: block * width) }
            // The contiguous axis of the weight last, or both turned where that is the depth.
            let extents = [Int64(source.depth), Int64(count)]
            let from = [Int64(source.depthStep), Int64(source.outputStep)]
            let distances = [Int64(width), 1]
            for (index, tap) in source.taps.enumerated() {
                unsafe kernels.f32_strided_copy(
                    2, extents, from, distances, weight + tap + panel * source.outputStep,
                    to + index * source.depth * width)
            }
        }
    }

    /// The panels of a 3x3 kernel as Winograd's products take them: [16][panels].
    init(winograd weight: Tensor, _ source: Source) {
        let plain = PackedFilters(weight, [source])
        let plane = source.depth * PackedFilters.paddedWidth(source.outputs)
        let kernels = unsafe KernelTable.current
        panels = unsafe Tensor([16 * plane]) { target in
            unsafe plain.panels.reading { plain in
                ThreadPool.shared.forEachChunk((source.outputs + 31) / 32) { chunk in
                    let panel = chunk * 32
                    let width = PackedFilters.paddedWidth(min(source.outputs - panel, 32))
                    unsafe kernels.f32_winograd_weights(
                        plain + 9 * panel * source.depth, width * source.depth,
                        target + panel * source.depth, plane)
                }
            }
        }
    }
}
