package import CEspalierKernels
import EspalierTensors

/// The geometry of a sparse INT8 convolution, which reads its images from planes instead of gathered columns.
///
/// Planes are [channels / 4][positions][4]; positions run over the padded images in row order. At stride 1 a tap is
/// the same distance from every output pixel, so that 64 neighbouring positions are 64 tokens of a linear layer. Those
/// at the ends of rows are no output pixels: they are computed and dropped. Other strides have no such layout: use
/// the dense kernel.
///
/// A tap beside another reads its operands from addresses that are no multiples of a cache line: two lines a load.
/// Where it costs few positions, rows are filled up to whole lines, and each column of taps has its own copy of the
/// planes, moved so that all loads are aligned.
package struct PlanarConvolution: Sendable {
    private let window: esp_window
    /// Images that are computed together.
    package let images: Int
    // Of one padded image.
    private let height: Int
    private let width: Int
    // The distance of each tap and quad from a token, in bytes.
    private var places: [UInt32]
    // Of the planes, one for each column of taps, or one.
    private let copies: Int

    /// The geometry of a window, nil where it has another stride than 1, or too many inputs for `SparseInt8`.
    ///
    /// - Parameter block: Of the layer's weights; 4x4 uses a load four times and wins nothing by copies.
    package init?(_ window: esp_window, block: SparseInt8.Block, images: Int = 1) {
        guard window.stride_x == 1, window.stride_y == 1 else { return nil }
        let reach = Int(window.dilation_x) * (Int(window.kernel_width) - 1)
        let compact = PlanarConvolution(
            window, images: images, width: Int(window.out_width) + reach, copies: 1)
        var best = compact
        // An aligned block takes about two thirds of the time.
        if block == .oneByFour, (2...5).contains(window.kernel_width) {
            let aligned = PlanarConvolution(
                window, images: images, width: (Int(window.out_width) + reach + 15) / 16 * 16,
                copies: Int(window.kernel_width))
            if aligned.blocks * 4 <= compact.blocks * 5 { best = aligned }
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
            let position = quad * best.positions + row * Int(window.dilation_y) * best.width
            return best.copies > 1
                ? UInt32(position * 4 + column * best.planeBytes)
                : UInt32((position + column * Int(window.dilation_x)) * 4)
        }
    }

    private init(_ window: esp_window, images: Int, width: Int, copies: Int) {
        (self.window, self.images, self.width, self.copies) = (window, images, width, copies)
        height = Int(window.out_height) + Int(window.dilation_y) * (Int(window.kernel_height) - 1)
        places = []
    }

    /// Inputs of an output, filled up to fours in each tap.
    package var depth: Int { places.count * 4 }
    package var taps: Int { Int(window.kernel_height * window.kernel_width) }
    /// Whether all loads of planes are aligned: there are as many copies as taps in a row.
    package var isAligned: Bool { copies > 1 }
    /// Words of four channels that are written as planes, copies included.
    package var planeWords: Int { copies * positions * ((Int(window.channels) + 3) / 4) }

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

    /// The blocks of 64 positions that `multiply` computes.
    package var blocks: Int {
        var count = 0
        forEachBlock { _ in count += 1 }
        return count
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
            for n in 0..<images {
                unsafe kernels.u8_to_planes(
                    window, image + n * imageSize, layer.inputZeroPoint, width, positions,
                    planes + n * height * width * 4)
            }
        }
        for copy in 1..<copies {
            let move = copy * Int(window.dilation_x) * 4
            unsafe (planes + copy * planeBytes).update(
                from: planes + move, count: planeBytes - move)
        }
        unsafe places.withUnsafeBufferPointer { places in
            unsafe layer.withC(places: places.baseAddress) { c in
                forEachBlock { first in
                    unsafe layer.run(kernels, c, planes + 4 * first, scratch: rest, into: block)
                    forEachRun(first..<min(first + 64, positions)) { position, count, pixel in
                        unsafe kernels.u8_from_block(
                            block + 4 * (position - first), count, layer.outputs,
                            y + pixel * pitch, pitch)
                    }
                }
            }
        }
    }

    // The first position of each block: an output pixel that no block before it has.
    private func forEachBlock(_ body: (Int) -> Void) {
        var first = 0
        while let next = nextPixel(from: first) {
            body(next)
            first = next + 64
        }
    }

    // Runs of positions that are neighbouring output pixels: the first position, how many, and the first one's pixel.
    private func forEachRun(_ range: Range<Int>, _ body: (Int, Int, Int) -> Void) {
        var at = range.lowerBound
        while let position = nextPixel(from: at), position < range.upperBound {
            let (row, column) = (position / width, position % width)
            let count = min(Int(window.out_width) - column, range.upperBound - position)
            let pixel = row / height * outputPixels + row % height * Int(window.out_width) + column
            body(position, count, pixel)
            at = position + count
        }
    }

    // The first output pixel at a position or behind it.
    private func nextPixel(from position: Int) -> Int? {
        guard outputPixels > 0, position < positions else { return nil }
        var (row, column) = (position / width, position % width)
        if column >= window.out_width { (row, column) = (row + 1, 0) }
        if row % height >= window.out_height { (row, column) = ((row / height + 1) * height, 0) }
        return row < images * height ? row * width + column : nil
    }
}
