package import CEspalierKernels
import EspalierTensors

/// The geometry of a sparse INT8 convolution, which reads its images from planes instead of gathered columns.
///
/// Planes are [channels / 4][positions][4]; positions run over the padded pixels in row order, and in each over the
/// images that are computed together. At stride 1 a tap is the same distance from every output pixel, so that 64
/// neighbouring positions are 64 tokens of a linear layer. Those at the ends of rows are no output pixels: they are
/// computed and dropped. Other strides have no such layout: use the dense kernel.
///
/// A tap beside another reads its operands from addresses that are no multiples of a cache line, two lines a load,
/// unless a pixel's images fill lines. Where it costs few positions, rows are then filled up to whole lines, and each
/// column of taps has its own copy of the planes, moved so that all loads are aligned.
package struct PlanarConvolution: Sendable {
    private let window: esp_window
    /// Images that are computed together.
    package let images: Int
    // Of one padded image.
    private let height: Int
    private let width: Int
    // The distance of each tap and quad from a token, in bytes.
    private var places: [UInt32] = []
    // Of the planes, one for each column of taps, or one.
    private let copies: Int
    private var work: [Block] = []
    private var runs: [Run] = []

    // Positions that are computed at once, and which of the runs they hold.
    private struct Block {
        let first: Int
        let tokens: Int
        let runs: Range<Int>
    }

    // Positions of a block that are neighbouring output pixels, or images of one: the first one's row of the result.
    private struct Run {
        let token: Int
        let count: Int
        let row: Int
    }

    /// The geometry of a window, nil where it has another stride than 1, or too many inputs for `SparseInt8`.
    ///
    /// - Parameter block: Of the layer's weights; 4x4 uses a load four times and wins nothing by copies.
    package init?(_ window: esp_window, block: SparseInt8.Block, images: Int = 1) {
        guard window.stride_x == 1, window.stride_y == 1 else { return nil }
        let width = Int(window.out_width) + Int(window.dilation_x) * (Int(window.kernel_width) - 1)
        var best = PlanarConvolution(window, images: images, width: width, copies: 1)
        // An aligned block takes about two thirds of the time.
        if block == .oneByFour, (2...5).contains(window.kernel_width), images % 16 != 0 {
            var filled = width
            while filled * images % 16 != 0 { filled += 1 }
            let aligned = PlanarConvolution(
                window, images: images, width: filled, copies: Int(window.kernel_width))
            if aligned.vectors * 4 <= best.vectors * 5 { best = aligned }
        }
        let quads = (Int(window.channels) + 3) / 4
        guard quads * Int(window.kernel_height * window.kernel_width) <= 65_536,
            best.copies * best.planeBytes <= Int(UInt32.max)
        else { return nil }
        self = best
        places = (0..<Int(window.kernel_height * window.kernel_width) * quads).map { index in
            let (tap, quad) = (index / quads, index % quads)
            let (row, column) = (
                tap / Int(window.kernel_width), tap % Int(window.kernel_width)
            )
            let pixel = row * Int(window.dilation_y) * best.width
            let position = quad * best.positions + pixel * images
            return best.copies > 1
                ? UInt32(position * 4 + column * best.planeBytes)
                : UInt32((position + column * Int(window.dilation_x) * images) * 4)
        }
    }

    private init(_ window: esp_window, images: Int, width: Int, copies: Int) {
        (self.window, self.images, self.width, self.copies) = (window, images, width, copies)
        height = Int(window.out_height) + Int(window.dilation_y) * (Int(window.kernel_height) - 1)
        findBlocks()
    }

    /// Inputs of an output, filled up to fours in each tap.
    package var depth: Int { places.count * 4 }
    /// Rows of the window, and the inputs of an output where each row's are filled up to fours: see `DenseConvolution`.
    package var windowRows: Int { Int(window.kernel_height) }
    package var denseDepth: Int {
        windowRows * ((Int(window.kernel_width) * Int(window.channels) + 3) / 4 * 4)
    }
    /// Whether all loads of planes are aligned.
    package var isAligned: Bool { copies > 1 || images % 16 == 0 }
    /// Words of four channels that are written as planes, copies included; sixteen by sixteen at first.
    package var planeWords: Int {
        let quads = (Int(window.channels) + 3) / 4
        return (positions + 15) / 16 * ((quads + 15) / 16) * 256 + (copies - 1) * positions * quads
    }
    /// Parts of at most sixteen tokens in which the blocks of results become rows.
    package var resultParts: Int { runs.reduce(0) { $0 + ($1.count + 15) / 16 } }

    private var positions: Int { images * height * width }
    /// Output pixels of one image.
    package var outputPixels: Int { Int(window.out_height) * Int(window.out_width) }
    private var planeBytes: Int {
        // A block reads up to 63 positions beyond the last one; then on whole cache lines.
        ((Int(window.channels) + 3) / 4 * positions * 4 + 252 + 63) / 64 * 64
    }

    /// Bytes of scratch that `multiply` needs, best at an address that is a multiple of 64.
    package func scratchBytes(for layer: SparseInt8) -> Int {
        copies * planeBytes + layer.outputs * 64 + layer.scratchBytes
    }

    /// The blocks of positions that `multiply` computes.
    package var blocks: Int { work.count }
    /// The tokens of each block.
    package var tokens: [Int] { work.map(\.tokens) }
    // Of sixteen tokens each.
    private var vectors: Int {
        work.reduce(0) { $0 + ($1.tokens > 32 ? 4 : $1.tokens > 16 ? 2 : 1) }
    }

    /// Computes all output pixels of `images` images, one behind the other. y has `pitch` codes a pixel.
    package func multiply(
        _ kernels: esp_kernels, _ layer: SparseInt8, image: UnsafePointer<UInt8>,
        scratch: UnsafeMutablePointer<UInt8>, into y: UnsafeMutablePointer<UInt8>, pitch: Int
    ) {
        require(
            layer.taps * layer.channels / 4 == places.count
                && layer.channels == (Int(window.channels) + 3) / 4 * 4,
            "a window of \(places.count) fours of inputs for \(layer.taps)x\(layer.channels)")
        let planes = unsafe scratch
        let block = unsafe scratch + copies * planeBytes
        let rest = unsafe block + layer.outputs * 64
        let imageSize = Int(window.height) * Int(window.width) * Int(window.pitch)
        unsafe withUnsafePointer(to: window) { window in
            unsafe kernels.u8_to_planes(
                window, image, images, imageSize, layer.inputZeroPoint, width, positions, planes)
        }
        for copy in 1..<copies {
            let move = copy * Int(window.dilation_x) * images * 4
            unsafe (planes + copy * planeBytes).update(
                from: planes + move, count: planeBytes - move)
        }
        // Of the result, from one token of a run to the next.
        let step = images > 1 ? outputPixels * pitch : pitch
        unsafe places.withUnsafeBufferPointer { places in
            unsafe layer.withC(places: places.baseAddress) { c in
                for part in work {
                    unsafe layer.run(
                        kernels, c, planes + 4 * part.first, tokens: part.tokens, scratch: rest,
                        into: block)
                    for index in part.runs {
                        let run = runs[index]
                        unsafe kernels.u8_from_block(
                            block + 4 * run.token, run.count, layer.outputs, y + run.row * pitch,
                            step)
                    }
                }
            }
        }
    }

    private mutating func findBlocks() {
        var first = 0
        while let start = nextPixel(from: first) {
            let (before, end) = (runs.count, min(start + 64, positions))
            var at = start
            while let position = nextPixel(from: at), position < end {
                let (pixel, image) = (position / images, position % images)
                let (row, column) = (pixel / width, pixel % width)
                let neighbours = images > 1 ? images - image : Int(window.out_width) - column
                let count = min(neighbours, end - position)
                runs.append(
                    Run(
                        token: position - start, count: count,
                        row: image * outputPixels + row * Int(window.out_width) + column))
                at = position + count
            }
            work.append(Block(first: start, tokens: at - start, runs: before..<runs.count))
            first = start + 64
        }
    }

    // The first output pixel at a position or behind it.
    private func nextPixel(from position: Int) -> Int? {
        guard outputPixels > 0, position < positions else { return nil }
        let (row, column) = (position / images / width, position / images % width)
        if column < window.out_width { return row < window.out_height ? position : nil }
        return row + 1 < window.out_height ? (row + 1) * width * images : nil
    }
}
