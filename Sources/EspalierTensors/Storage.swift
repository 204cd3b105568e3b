/// The memory behind a tensor: one block of floats from the pool, shared until one owner writes.
///
/// Pointers to tensor elements are made here and nowhere else.
@safe package final class Storage: @unchecked Sendable {
    // Sendable because a block is only written while it has a single owner.
    fileprivate let base: UnsafeMutablePointer<Float>
    private let sizeClass: Int
    private let isRehearsed: Bool

    /// Room for `count` floats, not initialised.
    init(count: Int) {
        sizeClass = BufferPool.sizeClass(forBytes: count * MemoryLayout<Float>.stride)
        let rehearsal = Rehearsal.current
        isRehearsed = rehearsal != nil
        let block =
            unsafe rehearsal?.allocate(sizeClass: sizeClass)
            ?? BufferPool.shared.allocate(sizeClass: sizeClass)
        unsafe base = block.bindMemory(to: Float.self, capacity: max(count, 1))
    }

    deinit {
        let block = unsafe UnsafeMutableRawPointer(base)
        if isRehearsed {
            unsafe Rehearsal.release(block, sizeClass: sizeClass)
        } else {
            unsafe BufferPool.shared.free(block, sizeClass: sizeClass)
        }
    }
}

extension Tensor {
    /// A new tensor whose elements `body` writes, all of them.
    package init(
        _ shape: Shape, layout: Layout = .rowMajor,
        writing body: (UnsafeMutablePointer<Float>) throws -> Void
    ) rethrows {
        let storage = Storage(count: layout.elementCount(shape))
        unsafe try body(storage.base)
        self.init(storage: storage, shape: shape, layout: layout)
    }

    /// The elements, to read while `body` runs.
    package func reading<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafePointer<Float>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(storage) {} }
        return unsafe try body(UnsafePointer(storage.base))
    }

    /// The elements, to change in place while `body` runs; copied first where they are shared.
    package mutating func writing<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeMutablePointer<Float>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        makeUnique()
        defer { withExtendedLifetime(storage) {} }
        return unsafe try body(storage.base)
    }

    /// Whether nobody else holds the elements, so that `writing` copies nothing.
    package mutating func isUnshared() -> Bool { isKnownUniquelyReferenced(&storage) }

    private mutating func makeUnique() {
        if isKnownUniquelyReferenced(&storage) { return }
        let copy = Storage(count: count)
        unsafe copy.base.update(from: storage.base, count: count)
        storage = copy
    }

    /// The elements in memory order.
    public var span: Span<Float> {
        @_lifetime(borrow self)
        get {
            let (base, count) = unsafe (storage.base, count)
            let span = unsafe Span(_unsafeStart: base, count: count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// The elements in memory order, to change in place.
    public var mutableSpan: MutableSpan<Float> {
        @_lifetime(&self)
        mutating get {
            makeUnique()
            let (base, count) = unsafe (storage.base, count)
            let span = unsafe MutableSpan(_unsafeStart: base, count: count)
            return unsafe _overrideLifetime(span, mutating: &self)
        }
    }
}

/// The elements of two tensors, to read while `body` runs.
package func reading<Result, Failure: Error>(
    _ a: Tensor, _ b: Tensor,
    _ body: (UnsafePointer<Float>, UnsafePointer<Float>) throws(Failure) -> Result
) throws(Failure) -> Result {
    unsafe try a.reading { a throws(Failure) in
        unsafe try b.reading { b throws(Failure) in unsafe try body(a, b) }
    }
}

/// The elements of three tensors, to read while `body` runs.
package func reading<Result, Failure: Error>(
    _ a: Tensor, _ b: Tensor, _ c: Tensor,
    _ body: (UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>) throws(Failure)
        -> Result
) throws(Failure) -> Result {
    unsafe try reading(a, b) { a, b throws(Failure) in
        unsafe try c.reading { c throws(Failure) in unsafe try body(a, b, c) }
    }
}
