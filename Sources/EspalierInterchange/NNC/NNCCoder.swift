import CEspalierCodec
import EspalierTensors

/// How a stream's payloads are coded, beside what the units' headers say.
struct NNCDialect: Sendable {
    var parameters: NNCParameters
    /// First-edition software: one more start index, another rule for single block rows (section 2).
    var isLegacy = false
    /// Whether block rows with entry points are decoded side by side.
    var usesEntries = true
    /// Tensors of fewer elements are not worth it.
    var leastForEntries = 1 << 15
}

/// What earlier updates left at the places of a tensor (14.5).
struct NNCPast: Sendable {
    /// The codes of the update before.
    var codes: [Int32]?
    /// Where any update before was not 0.
    var changed: [UInt8]?
}

/// The contexts of a tensor.
@safe final class NNCModel {
    let pointer: OpaquePointer

    init() {
        let bytes = UnsafeMutableRawPointer.allocate(
            byteCount: Int(esp_nnc_model_size()), alignment: 64)
        unsafe pointer = OpaquePointer(bytes)
        unsafe esp_nnc_model_start(pointer)
    }

    deinit { unsafe UnsafeMutableRawPointer(pointer).deallocate() }
}

extension NNCCodedTensor {
    /// Runs `body` on the tensor as the C functions see it.
    func withMatrix<Result>(
        _ header: NNCDataHeader, _ dialect: NNCDialect, _ past: NNCPast?,
        _ body: (UnsafePointer<esp_nnc_tensor>) throws(NNCError) -> Result
    ) throws(NNCError) -> Result {
        var matrix = unsafe esp_nnc_tensor()
        unsafe matrix.rows = Int64(rows)
        unsafe matrix.width = Int64(width)
        let isMatrix = isScanned && dimensions.count > 1 && rows > 1 && width > 1
        unsafe matrix.scan = isMatrix ? Int32(header.scanOrder) : 0
        unsafe matrix.greater = Int32(header.greater)
        unsafe matrix.codebook = Int32(codebook?.entries.count ?? 0)
        unsafe matrix.zero = Int32(codebook?.zero ?? 0)
        unsafe matrix.dependent = header.isDependent && codebook == nil ? 1 : 0
        unsafe matrix.limited = dialect.parameters.profile > 0 ? 1 : 0
        unsafe matrix.legacy = dialect.isLegacy ? 1 : 0
        let base = header.parent?.isTemporal == true ? past?.codes : nil
        let changed = usesHistory ? past?.changed : nil
        func call(
            _ skips: UnsafePointer<UInt8>?, _ base: UnsafePointer<Int32>?,
            _ changed: UnsafePointer<UInt8>?
        ) throws(NNCError) -> Result {
            unsafe matrix.skips = unsafe skips
            unsafe matrix.base = unsafe base
            unsafe matrix.past = unsafe changed
            return try unsafe withUnsafePointer(to: &matrix) { pointer throws(NNCError) in
                try unsafe body(pointer)
            }
        }
        // An empty array may have an address.
        return try unsafe (skips ?? []).withUnsafeBufferPointer { s throws(NNCError) in
            try unsafe (base ?? []).withUnsafeBufferPointer { b throws(NNCError) in
                try unsafe (changed ?? []).withUnsafeBufferPointer { c throws(NNCError) in
                    try unsafe call(
                        skips == nil ? nil : s.baseAddress, base == nil ? nil : b.baseAddress,
                        changed == nil ? nil : c.baseAddress)
                }
            }
        }
    }
}
