import CEspalierCodec
import EspalierTensors

/// A data unit's payload, made.
struct NNCPayloadEncoder {
    let header: NNCDataHeader
    let dialect: NNCDialect
    let past: NNCPast?

    init(_ header: NNCDataHeader, _ dialect: NNCDialect, past: NNCPast? = nil) {
        (self.header, self.dialect, self.past) = (header, dialect, past)
    }

    /// The whole unit: header with the entry points of the payload, and payload.
    func unit(_ tensors: [NNCCodedTensor]) throws(NNCError) -> [UInt8] {
        let payload = try encode(tensors)
        var header = header
        if !header.entryCounts.isEmpty {
            // Offsets are what a decoder finds.
            header.entries = []
            var decoder = NNCPayloadDecoder(header, dialect, past: past)
            _ = try decoder.decode(payload, tensors)
            header.entries = decoder.entries
        }
        return NNCUnits.unit(.data, header.encoded(dialect.parameters) + payload)
    }

    /// The payload's bytes.
    func encode(_ tensors: [NNCCodedTensor]) throws(NNCError) -> [UInt8] {
        let output = Output()
        for tensor in tensors { try encode(tensor, output) }
        output.makeRoom(64)
        unsafe esp_nnc_encode_end(&output.encoder)
        return output.bytes
    }

    private func encode(_ tensor: NNCCodedTensor, _ output: Output) throws(NNCError) {
        let parameters = dialect.parameters
        output.makeRoom(4096 + tensor.rows)
        if let qp = tensor.qp {
            let (width, delta) = (6 + parameters.density, qp - parameters.baseQP)
            guard (-1 << (width - 1)..<1 << (width - 1)).contains(delta) else {
                throw NNCError("'\(tensor.name)' has the quantization parameter \(qp)")
            }
            unsafe esp_nnc_encode_bypass(
                &output.encoder, UInt32(delta & (1 << width - 1)), Int32(width))
        }
        if tensor.hasSkips(profile: parameters.profile) {
            if header.parent != nil {
                unsafe esp_nnc_encode_bypass(&output.encoder, tensor.usesHistory ? 1 : 0, 1)
            }
            unsafe esp_nnc_encode_bypass(&output.encoder, tensor.skips == nil ? 0 : 1, 1)
            if let skips = tensor.skips {
                unsafe skips.withUnsafeBufferPointer {
                    unsafe esp_nnc_encode_skips(
                        &output.encoder, $0.baseAddress, Int64($0.count))
                }
            }
        }
        let levels = tensor.levels(isDependent: header.isDependent)
        let model = NNCModel()
        try unsafe tensor.withMatrix(header, dialect, past) { matrix throws(NNCError) in
            guard unsafe Int64(tensor.starts.count) == esp_nnc_starts_count(matrix) else {
                throw NNCError("'\(tensor.name)' has \(tensor.starts.count) start indices")
            }
            unsafe tensor.starts.withUnsafeBufferPointer {
                unsafe esp_nnc_encode_starts(
                    &output.encoder, matrix, $0.baseAddress, Int64($0.count))
                unsafe esp_nnc_model_set(model.pointer, matrix, $0.baseAddress, Int64($0.count))
            }
            unsafe levels.withUnsafeBufferPointer {
                var cursor = esp_nnc_cursor()
                while unsafe esp_nnc_encode_rows(
                    &output.encoder, model.pointer, matrix, &cursor, $0.baseAddress, nil) == 0
                {
                    output.makeRoom(1 << 16)
                }
            }
        }
    }

    /// The bytes so far, in a buffer that grows.
    @safe private final class Output {
        var encoder = unsafe esp_nnc_encoder()
        private var memory: UnsafeMutablePointer<UInt8>
        private var capacity = 1 << 12

        init() {
            unsafe memory = .allocate(capacity: capacity)
            unsafe esp_nnc_encoder_start(&encoder, memory, Int64(capacity))
        }

        deinit { unsafe memory.deallocate() }

        /// Space for some more bytes, and for one more value.
        func makeRoom(_ count: Int) {
            let length = Int(unsafe encoder.length)
            let needed = length + count + Int(ESP_NNC_VALUE_BYTES)
            guard capacity < needed else { return }
            capacity = max(2 * capacity, needed)
            let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
            unsafe larger.update(from: memory, count: length)
            unsafe memory.deallocate()
            unsafe memory = larger
            unsafe esp_nnc_encoder_move(&encoder, memory, Int64(capacity))
        }

        var bytes: [UInt8] {
            require(unsafe encoder.full == 0, "an NNC payload outgrew its buffer")
            return unsafe Array(
                UnsafeBufferPointer(start: memory, count: Int(encoder.length)))
        }
    }
}

extension NNCCodedTensor {
    /// What is coded: of dependent quantization half the codes.
    func levels(isDependent: Bool) -> [Int32] {
        guard isDependent, codebook == nil else { return codes }
        return unsafe [Int32](unsafeUninitializedCapacity: count) { buffer, initialized in
            unsafe codes.withUnsafeBufferPointer {
                unsafe esp_nnc_levels($0.baseAddress, Int64($0.count), buffer.baseAddress)
            }
            initialized = count
        }
    }
}
