import CEspalierKernels
import EspalierGraph
import EspalierTensors

/// The shapes of a 3x3 convolution of stride 1 by Winograd's F(2x2, 3x3): see winograd.inc.
struct WinogradShape {
    /// The image that operands are taken from, and where in it the first output's window begins.
    let image: Size2D
    let top: Int
    let left: Int
    let channels: Int
    let outputs: Int
    let out: Size2D

    var tileRows: Int { (out.height + 1) / 2 }
    var tileColumns: Int { (out.width + 1) / 2 }

    /// The tiles whose products are computed at once: what they read and write stays in the second level of cache, but
    /// at least one row of them.
    var capacity: Int {
        let fitting = min(max(131_072 / (16 * (channels + outputs)), 16), 128)
        return max(fitting / tileColumns, 1) * tileColumns
    }

    /// The copy of an image that tiles of operands are read from.
    var region: ImageRegion {
        ImageRegion(top: top, left: left, rows: 2 * tileRows + 2, columns: 2 * tileColumns + 2)
    }
    var regionCount: Int { region.rows * region.columns * channels }
    var operandCount: Int { 16 * plane(channels) }
    var resultCount: Int { 16 * plane(outputs) }

    /// Floats from one of the 16 matrices to the next: an odd number of cache lines, so that a tile's 16 lines are not all
    /// in the same set of the cache.
    func plane(_ width: Int) -> Int { ((capacity * width + 15) / 16 | 1) * 16 }

    func outputRows(_ tileRow: Int) -> Int { min(out.height - 2 * tileRow, 2) }

    /// Writes the transformed operands of a row of tiles of the copied image, `at` tiles from v's start.
    func transform(
        region: UnsafePointer<Float>, tileRow: Int, to v: UnsafeMutablePointer<Float>, at: Int
    ) {
        let columns = self.region.columns
        var tiles = esp_tiles(
            tiles: tileColumns, channels: channels, down: columns * channels, right: channels,
            plane: plane(channels), rows: 2, columns: out.width)
        unsafe KernelTable.current.f32_winograd_operands(
            &tiles, region + 2 * tileRow * columns * channels, v + at * channels)
    }
}

/// Images on their way through a Winograd convolution: rows of tiles are collected until there are enough for a product.
@unsafe struct WinogradForward {
    let shape: WinogradShape
    let filters: UnsafePointer<Float>
    let bias: UnsafePointer<Float>?
    let relu: Bool
    /// Scratch of `operandCount`, `resultCount` and `regionCount` floats.
    let v: UnsafeMutablePointer<Float>
    let m: UnsafeMutablePointer<Float>
    let region: UnsafeMutablePointer<Float>
    private var pending: [(image: Int, row: Int)] = []

    init(
        _ shape: WinogradShape, filters: UnsafePointer<Float>, bias: UnsafePointer<Float>?,
        relu: Bool, v: UnsafeMutablePointer<Float>, m: UnsafeMutablePointer<Float>,
        region: UnsafeMutablePointer<Float>
    ) {
        unsafe self.shape = shape
        unsafe self.filters = unsafe filters
        unsafe self.bias = unsafe bias
        unsafe self.relu = relu
        unsafe self.v = unsafe v
        unsafe self.m = unsafe m
        unsafe self.region = unsafe region
    }

    /// Takes an image. `target` tells where a row of tiles of an image goes, two rows of pixels; `done` that it is there.
    mutating func add(
        _ source: UnsafePointer<Float>, image: Int,
        target: (Int, Int) -> UnsafeMutablePointer<Float>, done: (Int, Int) -> Void
    ) {
        let shape = unsafe shape
        unsafe shape.region.copy(
            source, size: shape.image, pitch: shape.channels, channels: shape.channels, to: region)
        for row in 0..<shape.tileRows {
            unsafe shape.transform(
                region: region, tileRow: row, to: v, at: pending.count * shape.tileColumns)
            unsafe pending.append((image, row))
            if unsafe pending.count * shape.tileColumns == shape.capacity {
                unsafe flush(target: target, done: done)
            }
        }
    }

    /// Computes what is pending.
    mutating func flush(
        target: (Int, Int) -> UnsafeMutablePointer<Float>, done: (Int, Int) -> Void
    ) {
        let shape = unsafe shape
        let kernels = unsafe KernelTable.current
        let (channels, outputs) = (shape.channels, shape.outputs)
        var taps = unsafe esp_taps.matrix(
            rows: pending.count * shape.tileColumns, depth: channels, outputs: outputs)
        let plane = channels * PackedFilters.paddedWidth(outputs)
        for position in 0..<16 {
            unsafe kernels.f32_taps(
                &taps, v + position * shape.plane(channels), filters + position * plane, nil, false,
                m + position * shape.plane(outputs))
        }
        for (index, place) in unsafe pending.enumerated() {
            var tiles = esp_tiles(
                tiles: shape.tileColumns, channels: outputs, down: shape.out.width * outputs,
                right: outputs, plane: shape.plane(outputs),
                rows: shape.outputRows(place.row), columns: shape.out.width)
            unsafe kernels.f32_winograd_results(
                &tiles, m + index * shape.tileColumns * outputs, bias, relu,
                target(place.image, place.row))
            done(place.image, place.row)
        }
        unsafe pending.removeAll(keepingCapacity: true)
    }
}

/// The gradient of the weights of a Winograd convolution, as sums of the 16 products: [16][channels][outputs].
@unsafe struct WinogradWeightGradient {
    let shape: WinogradShape
    /// Scratch of `operandCount`, `resultCount` and `regionCount` floats, and the sums.
    let v: UnsafeMutablePointer<Float>
    let u: UnsafeMutablePointer<Float>
    let region: UnsafeMutablePointer<Float>
    let sums: UnsafeMutablePointer<Float>
    private var pending = 0

    init(
        _ shape: WinogradShape, v: UnsafeMutablePointer<Float>, u: UnsafeMutablePointer<Float>,
        region: UnsafeMutablePointer<Float>, sums: UnsafeMutablePointer<Float>
    ) {
        unsafe self.shape = shape
        unsafe self.v = unsafe v
        unsafe self.u = unsafe u
        unsafe self.region = unsafe region
        unsafe self.sums = unsafe sums
    }

    /// Takes an image and the gradient of its result.
    mutating func add(_ source: UnsafePointer<Float>, upstream: UnsafePointer<Float>) {
        let shape = unsafe shape
        unsafe shape.region.copy(
            source, size: shape.image, pitch: shape.channels, channels: shape.channels, to: region)
        let line = shape.out.width * shape.outputs
        for row in 0..<shape.tileRows {
            unsafe shape.transform(region: region, tileRow: row, to: v, at: pending)
            var tiles = esp_tiles(
                tiles: shape.tileColumns, channels: shape.outputs, down: line,
                right: shape.outputs, plane: shape.plane(shape.outputs),
                rows: shape.outputRows(row), columns: shape.out.width)
            unsafe KernelTable.current.f32_winograd_upstream(
                &tiles, upstream + 2 * row * line, u + pending * shape.outputs)
            unsafe pending += shape.tileColumns
            if unsafe pending == shape.capacity { unsafe flush() }
        }
    }

    /// Adds what is pending to the sums.
    mutating func flush() {
        let shape = unsafe shape
        var taps = unsafe esp_taps.matrix(
            rows: pending, depth: shape.channels, outputs: shape.outputs)
        for position in 0..<16 {
            unsafe KernelTable.current.f32_taps_gradient(
                &taps, v + position * shape.plane(shape.channels),
                u + position * shape.plane(shape.outputs),
                sums + position * shape.channels * shape.outputs)
        }
        unsafe pending = 0
    }
}

extension esp_taps {
    /// The product of a matrix [rows][depth] with packed weights.
    fileprivate static func matrix(rows: Int, depth: Int, outputs: Int) -> esp_taps {
        esp_taps(
            rows: 1, columns: rows, down: 0, right: depth, taps_y: 1, taps_x: 1, tap_down: 0,
            tap_right: 0, depth: depth, out_down: 0, out_right: outputs, outputs: outputs)
    }
}
