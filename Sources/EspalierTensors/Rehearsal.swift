import CEspalierKernels

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// How much memory some work on tensors will take, found by doing it without doing it.
///
/// Inside of a rehearsal a new tensor is a range of addresses without memory behind it, and of each parallel loop only
/// the first chunk runs; so the tensors come and go exactly as they will, in a small part of the time. What the results
/// hold means nothing.
package final class Rehearsal {
    /// What the pool would hold.
    package private(set) var statistics = BufferPool.Statistics()
    private var free = [Int](repeating: 0, count: BufferPool.classCount)

    private init() {}

    /// The memory that `body` takes for its tensors, in bytes of whole blocks: `peak` is the most at one time, `reserved`
    /// what the pool would ask of the system if it held nothing.
    ///
    /// - Precondition: no tensor made inside outlives `body`.
    package static func run(_ body: () throws -> Void) rethrows -> BufferPool.Statistics {
        let rehearsal = Rehearsal()
        let previous = unsafe esp_rehearsal().pointee
        unsafe esp_rehearsal().pointee = UInt(
            bitPattern: Unmanaged.passUnretained(rehearsal).toOpaque())
        defer {
            unsafe esp_rehearsal().pointee = previous
            withExtendedLifetime(rehearsal) {}
        }
        try body()
        require(
            rehearsal.statistics.live == 0, "a tensor of a rehearsal outlives it: it has no value")
        return rehearsal.statistics
    }

    /// The one that this thread is in.
    static var current: Rehearsal? {
        let word = unsafe esp_rehearsal().pointee
        guard let pointer = unsafe UnsafeRawPointer(bitPattern: word) else { return nil }
        return unsafe Unmanaged<Rehearsal>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Whether this thread is in one: results mean nothing, and checks of them are left out.
    package static var isUnderWay: Bool { unsafe esp_rehearsal().pointee != 0 }

    func allocate(sizeClass: Int) -> UnsafeMutableRawPointer {
        let bytes = BufferPool.bytes(ofClass: sizeClass)
        statistics.live += bytes
        statistics.peak = max(statistics.peak, statistics.live)
        if free[sizeClass] > 0 {
            free[sizeClass] -= 1
        } else {
            statistics.reserved += bytes
            statistics.systemAllocations += 1
        }
        let flags = MAP_PRIVATE | MAP_ANON | MAP_NORESERVE
        guard let block = unsafe mmap(nil, bytes, PROT_READ | PROT_WRITE, flags, -1, 0),
            unsafe block != MAP_FAILED
        else { fatalError("no addresses left for a rehearsal of \(bytes) bytes") }
        return unsafe block
    }

    static func release(_ block: UnsafeMutableRawPointer, sizeClass: Int) {
        let bytes = BufferPool.bytes(ofClass: sizeClass)
        unsafe munmap(block, bytes)
        guard let current else { return }
        current.statistics.live -= bytes
        current.free[sizeClass] += 1
    }
}
