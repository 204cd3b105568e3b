package import CEspalierKernels
import EspalierTensors

/// INT8 weights in live blocks of 1x4 or 4x4, for operands in blocks of 64 tokens, or in planes of images (see
/// `PlanarConvolution`).
package struct SparseInt8: Sendable {
    package enum Block: Sendable, Hashable {
        case oneByFour, fourByFour
    }

    package let block: Block
    /// Channels of one tap, a multiple of 4.
    package let channels: Int
    /// Taps of the window; 1 for a linear layer.
    package let taps: Int
    package let outputs: Int
    /// The code that stands for 0 in the operand, used outside images.
    package let inputZeroPoint: UInt8
    private let lengths: [UInt32]
    private let indices: [UInt16]
    private let values: [Int32]
    private let rows: [UInt16]
    private let requantization: Requantization

    /// Whether a layer can be packed: outputs are a multiple of 4 below 2^16, and 16 bits count the fours of its inputs.
    package static func fits(outputs: Int, taps: Int, channels: Int) -> Bool {
        outputs % 4 == 0 && outputs < 65_535 && taps * ((channels + 3) / 4) <= 65_536
    }

    /// Packs the blocks of weights [outputs, taps, channels] that are not all zero; channels are filled up to a
    /// multiple of 4.
    ///
    /// - Precondition: The layer `fits`.
    package init(
        _ weights: [Int8], outputs: Int, taps: Int = 1, channels: Int, block: Block,
        inputZeroPoint: UInt8 = 0, _ requantization: Requantization
    ) {
        require(weights.count == outputs * taps * channels, "\(weights.count) INT8 weights")
        require(requantization.outputs == outputs, "\(requantization.outputs) scales")
        require(
            SparseInt8.fits(outputs: outputs, taps: taps, channels: channels),
            "blocks of four do not divide \(outputs)x\(taps)x\(channels)")
        let quadsOfTap = (channels + 3) / 4
        let quads = taps * quadsOfTap
        func value(_ output: Int, _ quad: Int) -> Int32 {
            let first = 4 * (quad % quadsOfTap)
            let start = (output * taps + quad / quadsOfTap) * channels + first
            return (0..<min(4, channels - first)).reduce(0) {
                $0 | Int32(UInt8(bitPattern: weights[start + $1])) << (8 * $1)
            }
        }
        var (lengths, indices, values) = ([UInt32](), [UInt16](), [Int32]())
        var rows: [UInt16] = []
        switch block {
        case .fourByFour:
            for group in 0..<outputs / 4 {
                let before = indices.count
                for quad in 0..<quads {
                    let four = (0..<4).map { value(4 * group + $0, quad) }
                    guard four.contains(where: { $0 != 0 }) else { continue }
                    indices.append(UInt16(quad))
                    values += four
                }
                lengths.append(UInt32(indices.count - before))
            }
        case .oneByFour:
            let live = (0..<outputs).map { output in
                (0..<quads).filter { value(output, $0) != 0 }
            }
            // Rows of similar length go together; a shorter one is filled up with zeros.
            let order = (0..<outputs).sorted { (-live[$0].count, $0) < (-live[$1].count, $1) }
            for group in stride(from: 0, to: outputs, by: 4) {
                let members = order[group..<group + 4]
                let length = members.map { live[$0].count }.max() ?? 0
                lengths.append(UInt32(length))
                rows += members.map { UInt16($0) }
                for entry in 0..<length {
                    for output in members {
                        let isLive = entry < live[output].count
                        indices.append(isLive ? UInt16(live[output][entry]) : 0)
                        values.append(isLive ? value(output, live[output][entry]) : 0)
                    }
                }
            }
        }
        (self.block, self.outputs, self.taps) = (block, outputs, taps)
        self.channels = quadsOfTap * 4
        self.inputZeroPoint = inputZeroPoint
        (self.lengths, self.indices, self.values, self.rows) = (lengths, indices, values, rows)
        self.requantization = requantization
    }

    /// Entries that are multiplied, filled-up ones included.
    package var entries: Int { values.count }

    /// Blocks that are multiplied, filled-up ones included: what a cost table calls entries.
    package var liveBlocks: Int { indices.count }

    /// Bytes of scratch that `multiply` needs.
    package var scratchBytes: Int { outputs * 64 }

    /// Computes the first `tokens` of a block of 64 of a linear layer: x [channels / 4][64][4] to y [outputs / 4][64][4].
    package func multiply(
        _ kernels: esp_kernels, _ x: UnsafePointer<UInt8>, tokens: Int = 64,
        scratch: UnsafeMutablePointer<UInt8>, into y: UnsafeMutablePointer<UInt8>
    ) {
        require(taps == 1, "\(taps) taps: a convolution")
        unsafe withC(places: nil) {
            unsafe run(kernels, $0, x, tokens: tokens, scratch: scratch, into: y)
        }
    }

    /// One block of tokens, in the layout that the layer's places stand for.
    func run(
        _ kernels: esp_kernels, _ layer: UnsafePointer<esp_int8_sparse>,
        _ x: UnsafePointer<UInt8>, tokens: Int, scratch: UnsafeMutablePointer<UInt8>,
        into y: UnsafeMutablePointer<UInt8>
    ) {
        switch block {
        case .oneByFour: unsafe kernels.u8s8_sparse_1x4(layer, x, tokens, scratch, y)
        case .fourByFour: unsafe kernels.u8s8_sparse_4x4(layer, x, tokens, y)
        }
    }

    func withC(
        places: UnsafePointer<UInt32>?, _ body: (UnsafePointer<esp_int8_sparse>) -> Void
    ) {
        unsafe requantization.withC { out in
            unsafe indices.withUnsafeBufferPointer { indices in
                unsafe values.withUnsafeBufferPointer { values in
                    unsafe lengths.withUnsafeBufferPointer { lengths in
                        unsafe rows.withUnsafeBufferPointer { rows in
                            var layer = unsafe esp_int8_sparse(
                                groups: lengths.count, lengths: lengths.baseAddress,
                                indices: indices.baseAddress, values: values.baseAddress,
                                rows: rows.baseAddress, places: places, out: out)
                            unsafe body(&layer)
                        }
                    }
                }
            }
        }
    }
}
