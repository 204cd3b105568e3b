/// Bytes as a kernel wants them, at an address that is a multiple of 64: packed weights, codes of activations.
@safe package final class PackedBuffer: @unchecked Sendable {
    // Sendable because it is only written by `init` and by `write`, whose caller is its only user then.
    private let base: UnsafeMutableRawPointer
    /// The number of bytes.
    package let count: Int

    /// Bytes that are all `value`.
    package init(repeating value: UInt8 = 0, count: Int) {
        self.count = count
        // Whole cache lines, so that a kernel may read the last one to its end.
        let size = max((count + 63) / 64, 1) * 64
        unsafe base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        unsafe base.initializeMemory(as: UInt8.self, repeating: value, count: size)
    }

    /// A copy of some elements.
    package convenience init<Element: BitwiseCopyable>(_ elements: [Element]) {
        self.init(count: elements.count * MemoryLayout<Element>.stride)
        unsafe elements.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            unsafe base.copyMemory(from: start, byteCount: source.count)
        }
    }

    deinit { unsafe base.deallocate() }

    /// The bytes, to read while `body` runs.
    package func reading<Result>(_ body: (UnsafeRawPointer) -> Result) -> Result {
        defer { withExtendedLifetime(self) {} }
        return unsafe body(UnsafeRawPointer(base))
    }

    /// The bytes, to change while `body` runs.
    package func writing<Result>(_ body: (UnsafeMutableRawPointer) -> Result) -> Result {
        defer { withExtendedLifetime(self) {} }
        return unsafe body(base)
    }
}
