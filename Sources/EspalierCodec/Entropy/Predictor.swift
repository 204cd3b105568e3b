import CEspalierCodec
import EspalierTensors

/// Predicts a weight from the weights before it in its row: one triangular matrix for a whole tensor, in 1/128.
struct Predictor: Sendable {
    /// [columns, columns], of which the part below the diagonal counts.
    private let coefficients: [Int8]
    /// The coded form.
    let bytes: [UInt8]

    /// A predictor that saves more than it costs, or nil.
    static func fitted(to codes: [Int8], rows: Int, columns: Int) -> Predictor? {
        // Half a row of coefficients for each column, of four to five bits, against at most a bit and a half of
        // each weight.
        guard columns <= IndexCoder.widestPrediction, rows >= 2 * columns, columns >= 2 else {
            return nil
        }
        var gain = 0.0
        let coefficients = unsafe [Int8](unsafeUninitializedCapacity: columns * columns) {
            out, initialized in
            guard let out = out.baseAddress else { return }
            let space = UnsafeMutableRawPointer.allocate(
                byteCount: esp_predictor_workspace(rows, columns), alignment: 64)
            defer { unsafe space.deallocate() }
            unsafe codes.withUnsafeBufferPointer {
                guard let codes = $0.baseAddress else { return }
                unsafe esp_predictor_begin(codes, rows, columns, space)
            }
            ThreadPool.shared.forEachRange(columns, grain: 16) { range in
                unsafe esp_predictor_products(
                    rows, columns, range.lowerBound, range.upperBound, space)
            }
            gain = unsafe esp_predictor_fit(rows, columns, out, space)
            initialized = columns * columns
        }
        let triangle = Triangle(columns)
        let bytes = triangle.tile.encoded(triangle.packed(coefficients)[...])
        // A tenth and a hundredth of a bit more, for what is fitted to noise.
        let saved = (gain * 0.9 - 0.01) * Double(rows * columns)
        guard saved > Double(bytes.count * 8) else { return nil }
        return Predictor(coefficients: coefficients, bytes: bytes)
    }

    private init(coefficients: [Int8], bytes: [UInt8]) {
        self.coefficients = coefficients
        self.bytes = bytes
    }

    /// Reads a coded predictor; nil where it is none.
    init?(_ bytes: ArraySlice<UInt8>, columns: Int) {
        guard (2...IndexCoder.widestPrediction).contains(columns) else { return nil }
        let triangle = Triangle(columns)
        var isRight = false
        let packed = unsafe [Int8](
            unsafeUninitializedCapacity: triangle.tile.rows * triangle.tile.columns
        ) {
            buffer, initialized in
            isRight = unsafe triangle.tile.decode(
                bytes, predictor: nil, hasMultipliers: false, into: buffer)
            initialized = buffer.count
        }
        guard isRight else { return nil }
        self.init(coefficients: triangle.unpacked(packed), bytes: Array(bytes))
    }

    static func withCoefficients<Result>(
        of predictor: Predictor?, _ body: (UnsafePointer<Int8>?) -> Result
    ) -> Result {
        guard let predictor else { return body(nil) }
        return unsafe predictor.coefficients.withUnsafeBufferPointer { unsafe body($0.baseAddress) }
    }
}

/// The part of a square below its diagonal, row behind row, as a tile: where the number of columns is even, half as
/// many rows of one less; where it is odd, half of one less, of as many.
private struct Triangle {
    let columns: Int
    let tile: IndexTile

    init(_ columns: Int) {
        self.columns = columns
        let odd = columns % 2
        tile = IndexTile(rows: (columns - odd) / 2, columns: columns - 1 + odd, mode: .strong)
    }

    func packed(_ square: [Int8]) -> [Int8] {
        (0..<columns).flatMap { square[$0 * columns..<$0 * columns + $0] }
    }

    func unpacked(_ packed: [Int8]) -> [Int8] {
        var square = [Int8](repeating: 0, count: columns * columns)
        var next = 0
        for row in 0..<columns {
            for column in 0..<row {
                square[row * columns + column] = packed[next]
                next += 1
            }
        }
        return square
    }
}
