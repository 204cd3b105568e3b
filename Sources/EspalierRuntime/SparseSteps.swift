import CEspalierKernels
import EspalierKernels
import EspalierTensors

/// A linear layer of live blocks on codes: rows become blocks of 64 tokens, and back.
struct SparseLinearStep: Step {
    let name: String
    let layer: SparseInt8
    let source: Slot
    let target: Slot
    let scratch: Slot
    let input: PixelLayout
    let output: PixelLayout

    var kernel: String { "INT8 sparse \(layer.block)" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index, scratch.index] }
    var live: LiveBlocks? { layer.live }

    static func scratchBytes(_ layer: SparseInt8) -> Int {
        (layer.channels + layer.outputs) * 64 + layer.scratchBytes
    }

    func run(_ column: borrowing Column) {
        let rows = column.count * input.pixels
        let (x, y) = unsafe (column.codes(source), column.codes(target))
        let block = unsafe column.codes(scratch)
        let result = unsafe block + layer.channels * 64
        let rest = unsafe result + layer.outputs * 64
        for first in stride(from: 0, to: rows, by: 64) {
            let tokens = min(64, rows - first)
            unsafe column.kernels.u8_to_block(
                x + first * input.channels, input.channels, tokens, input.channels, block)
            unsafe layer.multiply(
                column.kernels, block, tokens: tokens, scratch: rest, into: result)
            unsafe column.kernels.u8_from_block(
                result, tokens, layer.outputs, y + first * output.channels, output.channels)
        }
    }
}

/// A convolution of live blocks on codes. Some images are computed together; where a column has fewer, what is left in
/// memory takes their place, and the results are dropped.
struct SparseConvolutionStep: Step {
    let name: String
    let layer: SparseInt8
    let geometry: PlanarConvolution
    let source: Slot
    let target: Slot
    let scratch: Slot
    let output: PixelLayout

    var kernel: String { "INT8 sparse \(layer.block), planar, \(geometry.images) images" }
    var reads: [Int] { [source.index] }
    var writes: [Int] { [target.index, scratch.index] }
    var live: LiveBlocks? { layer.live }

    func run(_ column: borrowing Column) {
        for example in stride(from: 0, to: column.count, by: geometry.images) {
            unsafe geometry.multiply(
                column.kernels, layer, image: column.codes(source, example),
                scratch: column.codes(scratch), into: column.codes(target, example),
                pitch: output.channels)
        }
    }
}

extension SparseInt8 {
    fileprivate var live: LiveBlocks {
        let rows = block == .oneByFour ? outputs : outputs / 4
        return LiveBlocks(count: liveBlocks, all: rows * taps * channels / 4)
    }
}
