import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Memory blocks for tensors, 64-byte aligned and used again.
///
/// Blocks come in size classes, four to a power of two, so that at most a quarter is wasted. A freed
/// block goes on its class's list and is handed out again: a training step in its steady state asks
/// the system for nothing.
package final class BufferPool: Sendable {
    /// The pool that all tensors share.
    package static let shared = BufferPool()

    /// What the pool holds, in bytes of whole blocks.
    package struct Statistics: Sendable {
        /// In tensors now.
        package var live = 0
        /// The most there has been in tensors since `resetPeak()`.
        package var peak = 0
        /// Asked of the system so far, live and free.
        package var reserved = 0
        /// Blocks asked of the system so far.
        package var systemAllocations = 0
    }

    private struct State {
        var statistics = Statistics()
        // The addresses of each class's first free block, 0 for none. A free block's first word is the
        // address of the next one.
        var heads = [UInt](repeating: 0, count: BufferPool.classCount)
    }

    private let state = Mutex(State())

    private init() {}

    package var statistics: Statistics { state.withLock { $0.statistics } }

    package func resetPeak() { state.withLock { $0.statistics.peak = $0.statistics.live } }

    static let classCount = 4 * 48

    /// The smallest class whose blocks hold `bytes`.
    package static func sizeClass(forBytes bytes: Int) -> Int {
        let units = max((bytes + 63) / 64, 1)
        if units <= 4 { return units - 1 }
        // 2^k < units <= 2^(k + 1), in quarters of 2^k
        let k = Int.bitWidth - 1 - (units - 1).leadingZeroBitCount
        let quarter = ((units - 1) >> (k - 2)) & 3
        return (k - 1) * 4 + quarter
    }

    /// The bytes in a block of a class.
    package static func bytes(ofClass sizeClass: Int) -> Int {
        if sizeClass < 4 { return (sizeClass + 1) * 64 }
        let k = sizeClass / 4 + 1
        return ((4 + sizeClass % 4 + 1) << (k - 2)) * 64
    }

    /// A block of a class, its content undefined.
    func allocate(sizeClass: Int) -> UnsafeMutableRawPointer {
        let bytes = BufferPool.bytes(ofClass: sizeClass)
        let reused = state.withLock { state -> UInt in
            state.statistics.live += bytes
            state.statistics.peak = max(state.statistics.peak, state.statistics.live)
            let head = state.heads[sizeClass]
            if let block = unsafe UnsafeRawPointer(bitPattern: head) {
                state.heads[sizeClass] = unsafe block.load(as: UInt.self)
            } else {
                state.statistics.reserved += bytes
                state.statistics.systemAllocations += 1
            }
            return head
        }
        if let block = unsafe UnsafeMutableRawPointer(bitPattern: reused) { return unsafe block }
        var block: UnsafeMutableRawPointer?
        // A large block lies on large pages where the system has them: a table of 4 KiB pages does not fit what the CPU
        // keeps of it.
        let alignment = bytes >= BufferPool.hugePage ? BufferPool.hugePage : 64
        let status = unsafe posix_memalign(&block, alignment, bytes)
        guard status == 0, let block = unsafe block else {
            fatalError("out of memory: \(bytes) bytes for a tensor, \(statistics.live) in use")
        }
        #if canImport(Glibc)
            if alignment > 64 { unsafe madvise(block, bytes, MADV_HUGEPAGE) }
        #endif
        return unsafe block
    }

    private static let hugePage = 2 << 20

    func free(_ block: UnsafeMutableRawPointer, sizeClass: Int) {
        let address = UInt(bitPattern: block)
        state.withLock { state in
            state.statistics.live -= BufferPool.bytes(ofClass: sizeClass)
            unsafe UnsafeMutablePointer<UInt>(bitPattern: address)?.pointee = state.heads[sizeClass]
            state.heads[sizeClass] = address
        }
    }
}
