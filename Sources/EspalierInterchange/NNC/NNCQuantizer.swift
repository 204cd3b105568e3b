import CEspalierCodec
import EspalierTensors

/// Floats become levels, and levels get their start indices.
struct NNCQuantizer {
    let header: NNCDataHeader
    let dialect: NNCDialect

    init(_ header: NNCDataHeader, _ dialect: NNCDialect) {
        (self.header, self.dialect) = (header, dialect)
    }

    /// Codes of floats, or nil where one does not fit: uniform, or by the trellis where the unit's header says so.
    ///
    /// - Parameter lambda: The weight of a bit against the error; 0 looks at errors only.
    func codes(
        _ floats: Tensor, of tensor: NNCCodedTensor, step: Float, lambda: Double
    ) throws(NNCError) -> [Int32]? {
        let count = tensor.count
        let isDependent = header.isDependent
        var levels = [Int32](repeating: 0, count: count)
        let fits = try unsafe tensor.withMatrix(header, dialect, nil) { matrix throws(NNCError) in
            let isScanned = unsafe matrix.pointee.scan > 0
            return unsafe floats.reading { values in
                unsafe levels.withUnsafeMutableBufferPointer { buffer -> Bool in
                    guard let target = buffer.baseAddress else { return true }
                    guard isScanned else {
                        return unsafe quantize(matrix, values, target, step, lambda)
                    }
                    // Quantizers see the order of the scan.
                    let words = UnsafeMutablePointer<UInt32>.allocate(capacity: 2 * count)
                    defer { unsafe words.deallocate() }
                    return unsafe values.withMemoryRebound(to: UInt32.self, capacity: count) {
                        unsafe esp_nnc_gather(matrix, $0, words)
                        let fits = unsafe words.withMemoryRebound(to: Float.self, capacity: count) {
                            values in
                            unsafe (words + count).withMemoryRebound(
                                to: Int32.self, capacity: count
                            ) { unsafe quantize(matrix, values, $0, step, lambda) }
                        }
                        unsafe target.withMemoryRebound(to: UInt32.self, capacity: count) {
                            unsafe esp_nnc_scatter(matrix, words + count, $0)
                        }
                        return fits
                    }
                }
            }
        }
        guard fits else { return nil }
        return isDependent ? try codes(ofLevels: levels, tensor) : levels
    }

    private func quantize(
        _ matrix: UnsafePointer<esp_nnc_tensor>, _ values: UnsafePointer<Float>,
        _ levels: UnsafeMutablePointer<Int32>, _ step: Float, _ lambda: Double
    ) -> Bool {
        let count = unsafe matrix.pointee.rows * matrix.pointee.width
        let isDependent = unsafe matrix.pointee.dependent != 0
        guard lambda > 0 else {
            guard isDependent else {
                return unsafe esp_nnc_quantize(values, count, step, levels) != 0
            }
            let choices = UnsafeMutablePointer<UInt8>.allocate(capacity: Int(count))
            defer { unsafe choices.deallocate() }
            return unsafe esp_nnc_quantize_dependent(values, count, step, choices, levels) != 0
        }
        let space = UnsafeMutableRawPointer.allocate(
            byteCount: Int(esp_nnc_rate_size()), alignment: 64)
        defer { unsafe space.deallocate() }
        guard isDependent else {
            return unsafe esp_nnc_quantize_rate(matrix, values, step, lambda, space, levels) != 0
        }
        let choices = UnsafeMutablePointer<UInt8>.allocate(capacity: 8 * Int(count))
        defer { unsafe choices.deallocate() }
        return unsafe esp_nnc_quantize_dependent_rate(
            matrix, values, step, lambda, space, choices, levels) != 0
    }

    // The state machine of 12.2, in the order of the scan.
    private func codes(
        ofLevels levels: [Int32], _ tensor: NNCCodedTensor
    ) throws(NNCError) -> [Int32] {
        try unsafe tensor.withMatrix(header, dialect, nil) { matrix throws(NNCError) in
            unsafe [Int32](unsafeUninitializedCapacity: levels.count) { buffer, count in
                unsafe levels.withUnsafeBufferPointer {
                    unsafe esp_nnc_codes(matrix, $0.baseAddress, buffer.baseAddress)
                }
                count = levels.count
            }
        }
    }

    /// The start indices that code the levels in the fewest bits, judged by their first `limit`.
    func starts(
        _ levels: [Int32], of tensor: NNCCodedTensor, limit: Int
    ) throws(NNCError) -> [UInt8] {
        try unsafe tensor.withMatrix(header, dialect, nil) { matrix throws(NNCError) in
            var starts = [UInt8](repeating: 0, count: Int(unsafe esp_nnc_starts_count(matrix)))
            guard limit > 0 else { return starts }
            let space = UnsafeMutableRawPointer.allocate(
                byteCount: Int(unsafe esp_nnc_search_size(matrix)), alignment: 64)
            defer { unsafe space.deallocate() }
            unsafe levels.withUnsafeBufferPointer { levels in
                unsafe starts.withUnsafeMutableBufferPointer {
                    unsafe esp_nnc_search_starts(
                        matrix, levels.baseAddress, Int64(limit), space, $0.baseAddress)
                }
            }
            return starts
        }
    }
}

extension NNCCodedTensor {
    /// Flags of the rows that are all 0; nil where there is none.
    var zeroRows: [UInt8]? {
        var flags = [UInt8](repeating: 0, count: rows)
        var any = false
        let (values, width) = (codes.span, width)
        for row in flags.indices {
            var isZero = true
            for index in row * width..<(row + 1) * width where values[index] != 0 {
                isZero = false
                break
            }
            if isZero { (flags[row], any) = (1, true) }
        }
        return any ? flags : nil
    }
}
