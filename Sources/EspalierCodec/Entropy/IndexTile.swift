import CEspalierCodec

/// A tile of codes: the calls into the coders in C.
struct IndexTile {
    let rows: Int
    let columns: Int
    let mode: IndexMode

    private var count: Int { rows * columns }

    private func withWorkspace<Result>(
        bytes: Int, _ body: (UnsafeMutableRawPointer) -> Result
    ) -> Result {
        let space = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        defer { unsafe space.deallocate() }
        return unsafe body(space)
    }

    private func withMultipliers(
        _ above: inout (Int8, Int8, Int8), _ body: (UnsafeMutablePointer<Int8>) -> Void
    ) {
        unsafe withUnsafeMutableBytes(of: &above) {
            guard let base = $0.baseAddress else { return }
            unsafe body(base.assumingMemoryBound(to: Int8.self))
        }
    }

    private var workspaceBytes: Int {
        switch mode {
        case .strong: esp_strong_workspace(rows, columns)
        case .symbols: esp_symbols_workspace(rows, columns)
        case .fast: esp_fast_workspace(count)
        }
    }

    /// The coded tile, or the codes as they are where those are no longer.
    func encoded(_ codes: ArraySlice<Int8>) -> [UInt8] {
        unsafe codes.withUnsafeBufferPointer { buffer in
            guard let codes = buffer.baseAddress else { return [] }
            let capacity = count
            var written = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { out, initialized in
                guard let out = out.baseAddress else { return }
                written = unsafe withWorkspace(bytes: workspaceBytes) { space in
                    switch mode {
                    case .strong:
                        unsafe esp_strong_encode(codes, rows, columns, out, capacity, space)
                    case .symbols:
                        unsafe esp_symbols_encode(codes, rows, columns, out, capacity, space)
                    case .fast: unsafe esp_fast_encode(codes, count, out, capacity, space)
                    }
                }
                initialized = written
            }
            return written > 0 ? bytes : unsafe buffer.map { UInt8(bitPattern: $0) }
        }
    }

    /// Three multipliers of the rows above, then the differences from the prediction, coded.
    func encoded(_ codes: ArraySlice<Int8>, predictor: Predictor?) -> [UInt8] {
        var above: (Int8, Int8, Int8) = (0, 0, 0)
        let differences = unsafe [Int8](unsafeUninitializedCapacity: count) { out, initialized in
            guard let out = out.baseAddress else { return }
            unsafe withWorkspace(bytes: esp_predictor_workspace(rows, columns)) { space in
                unsafe codes.withUnsafeBufferPointer { codes in
                    unsafe withMultipliers(&above) { above in
                        guard let codes = codes.baseAddress else { return }
                        unsafe Predictor.withCoefficients(of: predictor) { coefficients in
                            unsafe esp_predictor_apply(
                                codes, rows, columns, coefficients, above, out, space)
                        }
                    }
                }
            }
            initialized = count
        }
        let multipliers = [above.0, above.1, above.2].map { UInt8(bitPattern: $0) }
        return multipliers + encoded(differences[...])
    }

    /// False where `bytes` are no tile; then `codes` are zeros.
    func decode(
        _ bytes: ArraySlice<UInt8>, predictor: Predictor?, hasMultipliers: Bool,
        into codes: UnsafeMutableBufferPointer<Int8>
    ) -> Bool {
        let isRight = unsafe decodeAny(
            bytes, predictor: predictor, hasMultipliers: hasMultipliers, into: codes)
        if !isRight { unsafe codes.initialize(repeating: 0) }
        return isRight
    }

    private func decodeAny(
        _ bytes: ArraySlice<UInt8>, predictor: Predictor?, hasMultipliers: Bool,
        into codes: UnsafeMutableBufferPointer<Int8>
    ) -> Bool {
        var bytes = bytes
        var above: (Int8, Int8, Int8) = (0, 0, 0)
        if hasMultipliers {
            guard bytes.count >= 3 else { return false }
            let first = bytes.prefix(3).map { Int8(bitPattern: $0) }
            above = (first[0], first[1], first[2])
            bytes = bytes.dropFirst(3)
        }
        guard let to = codes.baseAddress else { return false }
        let isRight = unsafe bytes.withUnsafeBufferPointer { bytes in
            if bytes.count == count {
                for index in 0..<count { unsafe to[index] = Int8(bitPattern: bytes[index]) }
                return true
            }
            guard let from = bytes.baseAddress, bytes.count > 0, bytes.count < count else {
                return false
            }
            let length = bytes.count
            return unsafe withWorkspace(bytes: workspaceBytes) { space in
                switch mode {
                case .strong: unsafe esp_strong_decode(from, length, rows, columns, to, space) == 1
                case .symbols:
                    unsafe esp_symbols_decode(from, length, rows, columns, to, space) == 1
                case .fast: unsafe esp_fast_decode(from, length, count, to, space) == 1
                }
            }
        }
        guard isRight, predictor != nil || above != (0, 0, 0) else { return isRight }
        unsafe withWorkspace(bytes: esp_predictor_workspace(rows, columns)) { space in
            unsafe withMultipliers(&above) { above in
                unsafe Predictor.withCoefficients(of: predictor) { coefficients in
                    unsafe esp_predictor_undo(to, rows, columns, coefficients, above, space)
                }
            }
        }
        return true
    }
}
