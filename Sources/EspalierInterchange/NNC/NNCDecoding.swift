import CEspalierCodec
import EspalierTensors

/// The payload of a data unit, taken apart.
struct NNCPayloadDecoder {
    let header: NNCDataHeader
    let dialect: NNCDialect
    let past: NNCPast?
    /// Where block rows began, beside the first: bits taken, offset, state.
    private(set) var entries: [NNCDataHeader.Entry] = []

    init(_ header: NNCDataHeader, _ dialect: NNCDialect, past: NNCPast? = nil) {
        (self.header, self.dialect, self.past) = (header, dialect, past)
    }

    /// Fills in what the payload holds, which must end where the bytes do.
    mutating func decode(
        _ payload: [UInt8], _ tensors: [NNCCodedTensor]
    ) throws(NNCError) -> [NNCCodedTensor] {
        guard payload.count >= 2 else { throw NNCError("a payload of \(payload.count) bytes") }
        var tensors = tensors
        var decoder = unsafe esp_nnc_decoder()
        try unsafe payload.withUnsafeBufferPointer { bytes throws(NNCError) in
            unsafe esp_nnc_decoder_start(&decoder, bytes.baseAddress, Int64(bytes.count))
            for index in tensors.indices {
                try unsafe decode(&tensors[index], &decoder)
            }
            guard unsafe esp_nnc_decode_end(&decoder) == 1 else {
                throw NNCError("its payload does not end where the unit ends")
            }
        }
        return tensors
    }

    private mutating func decode(
        _ tensor: inout NNCCodedTensor, _ decoder: inout esp_nnc_decoder
    ) throws(NNCError) {
        let parameters = dialect.parameters
        if header.payload != .integers {
            let width = 6 + parameters.density
            let delta = Int(unsafe esp_nnc_decode_bypass(&decoder, Int32(width)))
            tensor.qp = parameters.baseQP + (delta >> (width - 1) == 1 ? delta - 1 << width : delta)
        }
        if tensor.hasSkips(profile: parameters.profile) {
            if header.parent != nil {
                tensor.usesHistory = unsafe esp_nnc_decode_bypass(&decoder, 1) == 1
            }
            if unsafe esp_nnc_decode_bypass(&decoder, 1) == 1 {
                var skips = [UInt8](repeating: 0, count: tensor.rows)
                unsafe skips.withUnsafeMutableBufferPointer {
                    unsafe esp_nnc_decode_skips(&decoder, $0.baseAddress, Int64($0.count))
                }
                tensor.skips = skips
            }
        }
        try checkPast(tensor)
        let model = NNCModel()
        var (starts, codes): ([UInt8], [Int32]) = ([], [])
        let filled = tensor
        try unsafe filled.withMatrix(header, dialect, past) { matrix throws(NNCError) in
            starts = [UInt8](repeating: 0, count: Int(unsafe esp_nnc_starts_count(matrix)))
            unsafe starts.withUnsafeMutableBufferPointer {
                unsafe esp_nnc_decode_starts(&decoder, model.pointer, matrix, $0.baseAddress)
            }
            var status: Int32 = 0
            codes = unsafe [Int32](unsafeUninitializedCapacity: filled.count) { buffer, count in
                if let target = buffer.baseAddress {
                    status = unsafe decode(matrix, starts, model, &decoder, target)
                }
                count = status == 0 ? filled.count : 0
            }
            guard status == 0 else {
                throw NNCError(
                    status == Int32(ESP_NNC_TOO_LARGE)
                        ? "'\(filled.name)' has a value of more than 31 bits"
                        : "'\(filled.name)' ends beyond its unit")
            }
        }
        (tensor.starts, tensor.codes) = (starts, codes)
    }

    // What the contexts of updates look at must be there.
    private func checkPast(_ tensor: NNCCodedTensor) throws(NNCError) {
        if header.parent?.isTemporal == true, past?.codes?.count != tensor.count {
            throw NNCError("'\(tensor.name)' follows an update that is not given")
        }
        if tensor.usesHistory, past?.changed?.count != tensor.count {
            throw NNCError("'\(tensor.name)' follows a series of updates that is not given")
        }
    }

    private mutating func decode(
        _ matrix: UnsafePointer<esp_nnc_tensor>, _ starts: [UInt8], _ model: NNCModel,
        _ decoder: inout esp_nnc_decoder, _ codes: UnsafeMutablePointer<Int32>
    ) -> Int32 {
        let rows = Int(unsafe esp_nnc_block_rows(matrix))
        if dialect.usesEntries, rows > 1, header.payload != .block,
            header.entries.count == rows - 1,
            unsafe matrix.pointee.rows * matrix.pointee.width >= dialect.leastForEntries,
            unsafe decodeBeside(matrix, starts, rows, &decoder, codes)
        {
            return 0
        }
        var state: Int32 = 0
        var last: Int64 = 0
        for row in 0..<Int64(rows) {
            let taken = unsafe esp_nnc_decoder_taken(&decoder)
            if row > 0 {
                entries.append(
                    NNCDataHeader.Entry(
                        value: Int(unsafe esp_nnc_decoder_value(&decoder)), state: Int(state),
                        offset: Int(taken - last)))
            }
            last = taken
            let status = unsafe esp_nnc_decode_rows(
                &decoder, model.pointer, matrix, row, row + 1, &state, codes)
            if status != 0 { return status }
        }
        return 0
    }

    // Block rows from their entry points, at once; false where these are not what the rows before them lead to.
    private func decodeBeside(
        _ matrix: UnsafePointer<esp_nnc_tensor>, _ starts: [UInt8], _ rows: Int,
        _ decoder: inout esp_nnc_decoder, _ codes: UnsafeMutablePointer<Int32>
    ) -> Bool {
        var places = [Int(unsafe esp_nnc_decoder_taken(&decoder))]
        let bits = Int(unsafe 8 * decoder.count)
        for entry in header.entries {
            let place = places[places.count - 1] + entry.offset
            guard entry.offset >= 0, place <= bits else { return false }
            places.append(place)
        }
        let ends = UnsafeMutablePointer<esp_nnc_decoder>.allocate(capacity: rows)
        let states = UnsafeMutablePointer<Int32>.allocate(capacity: rows)
        let statuses = UnsafeMutablePointer<Int32>.allocate(capacity: rows)
        defer {
            unsafe ends.deallocate()
            unsafe states.deallocate()
            unsafe statuses.deallocate()
        }
        let first = unsafe decoder
        ThreadPool.shared.forEachChunk(rows) { row in
            let model = NNCModel()
            var own = unsafe first
            var state: Int32 = 0
            if row > 0 {
                let entry = header.entries[row - 1]
                state = Int32(entry.state)
                unsafe esp_nnc_decoder_enter(
                    &own, first.bytes, first.count, Int64(places[row]), UInt32(entry.value))
            }
            unsafe starts.withUnsafeBufferPointer {
                unsafe esp_nnc_model_set(model.pointer, matrix, $0.baseAddress, Int64($0.count))
            }
            unsafe statuses[row] = unsafe esp_nnc_decode_rows(
                &own, model.pointer, matrix, Int64(row), Int64(row + 1), &state, codes)
            unsafe ends[row] = unsafe own
            unsafe states[row] = state
        }
        for row in 0..<rows {
            guard unsafe statuses[row] == 0 else { return false }
            guard row < rows - 1 else { break }
            let entry = header.entries[row]
            guard unsafe Int(esp_nnc_decoder_taken(ends + row)) == places[row + 1],
                unsafe Int(esp_nnc_decoder_value(ends + row)) == entry.value,
                unsafe !header.isDependent || Int(states[row]) == entry.state
            else { return false }
        }
        unsafe decoder = unsafe ends[rows - 1]
        return true
    }
}
