import CEspalierKernels

// Checksums.
extension Kernels {
    /// CRC-32C (Castagnoli) of bytes, continued from `crc`.
    package static func crc32c(_ bytes: Span<UInt8>, continuing crc: UInt32 = 0) -> UInt32 {
        unsafe bytes.withUnsafeBufferPointer { unsafe c.u8_crc32c(crc, $0.baseAddress, $0.count) }
    }
}
