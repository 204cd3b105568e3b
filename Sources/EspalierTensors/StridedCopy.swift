import CEspalierKernels

/// A copy of an array between two places in memory, each with distances of its own along each axis.
///
/// Axes that lie behind one another in both places are made one, so that what is contiguous is copied as such.
package struct StridedCopy {
    private var extents: [Int64] = []
    private var from: [Int64] = []
    private var to: [Int64] = []
    private let count: Int

    /// Elements a thread takes at a time.
    private static let grain = 16_384

    /// - Parameters:
    ///   - from: The distance of neighbours along each axis where it is read, in elements; 0 repeats.
    ///   - to: The same where it is written; no element twice.
    package init(_ shape: Shape, from: [Int], to: [Int]) {
        count = shape.elementCount
        for axis in shape.indices where shape[axis] != 1 {
            let (extent, read, write) = (
                Int64(shape[axis]), Int64(from[axis]), Int64(to[axis])
            )
            if let outer = extents.indices.last, self.from[outer] == extent * read,
                self.to[outer] == extent * write
            {
                extents[outer] *= extent
                (self.from[outer], self.to[outer]) = (read, write)
            } else {
                extents.append(extent)
                self.from.append(read)
                self.to.append(write)
            }
        }
    }

    /// Copies from x, where the first element is, to y; the outermost axis is shared out over the pool.
    package func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
        guard count > 0 else { return }
        let c = unsafe KernelTable.current
        guard let outer = extents.first else { return unsafe y.update(from: x, count: 1) }
        let grain = max(StridedCopy.grain / (count / Int(outer)), 1)
        ThreadPool.shared.forEachRange(Int(outer), grain: grain) { range in
            var part = extents
            part[0] = Int64(range.count)
            let (read, write) = (range.lowerBound * Int(from[0]), range.lowerBound * Int(to[0]))
            unsafe c.f32_strided_copy(part.count, part, from, to, x + read, y + write)
        }
    }
}
