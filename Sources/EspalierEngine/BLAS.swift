import COpenBLAS
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// OpenBLAS, always on one thread inside our pool: its own threads give other bits for another number of
/// them, and spin against ours.
package enum BLAS {
    /// The name of the core type that OpenBLAS's kernels are for. Reading it makes the choice.
    package static let core: String = chooseCore()

    /// A row-major matrix in memory; `transposed` means that the product reads its transpose.
    @unsafe package struct Operand {
        let base: UnsafePointer<Float>
        let pitch: Int
        let isTransposed: Bool

        package init(_ base: UnsafePointer<Float>, pitch: Int, transposed: Bool = false) {
            unsafe self.base = unsafe base
            unsafe self.pitch = pitch
            unsafe isTransposed = transposed
        }

        /// What is left from a row and a column of the matrix as the product reads it.
        func from(row: Int = 0, column: Int = 0) -> Operand {
            unsafe Operand(
                base + (isTransposed ? column * pitch + row : row * pitch + column), pitch: pitch,
                transposed: isTransposed)
        }
    }

    /// C = A B, or C += A B, on this thread.
    package static func multiply(
        _ a: Operand, _ b: Operand, into c: UnsafeMutablePointer<Float>, pitch: Int,
        rows: Int, columns: Int, depth: Int, accumulates: Bool = false
    ) {
        guard rows > 0, columns > 0 else { return }
        if depth == 0 {
            guard !accumulates else { return }
            for row in 0..<rows { unsafe (c + row * pitch).update(repeating: 0, count: columns) }
            return
        }
        _ = core
        unsafe cblas_sgemm(
            CblasRowMajor, a.isTransposed ? CblasTrans : CblasNoTrans,
            b.isTransposed ? CblasTrans : CblasNoTrans, blasint(rows), blasint(columns),
            blasint(depth), 1, a.base, blasint(a.pitch), b.base, blasint(b.pitch),
            accumulates ? 1 : 0, c, blasint(pitch))
    }

    /// The same product in tiles over the pool. The borders depend on the three extents alone.
    package static func multiplyTiled(
        _ a: Operand, _ b: Operand, into c: UnsafeMutablePointer<Float>, pitch: Int,
        rows: Int, columns: Int, depth: Int
    ) {
        _ = core
        let byRows = rows >= columns
        let tile = tileExtent(long: max(rows, columns), short: min(rows, columns), depth: depth)
        ThreadPool.shared.forEachRange(byRows ? rows : columns, grain: tile) { range in
            if byRows {
                unsafe multiply(
                    a.from(row: range.lowerBound), b, into: c + range.lowerBound * pitch,
                    pitch: pitch, rows: range.count, columns: columns, depth: depth)
            } else {
                unsafe multiply(
                    a, b.from(column: range.lowerBound), into: c + range.lowerBound, pitch: pitch,
                    rows: rows, columns: range.count, depth: depth)
            }
        }
    }

    /// Tiles of at least 4 million operations, so that packing the shared operand again stays cheap, at most
    /// sixteen of them, along the longer side in multiples of 16.
    static func tileExtent(long: Int, short: Int, depth: Int) -> Int {
        let operations = 2 * Double(long) * Double(short) * Double(depth)
        let tiles = min(max(Int(operations / 4e6), 1), 16)
        return max(((long + tiles - 1) / tiles + 15) / 16 * 16, 16)
    }

    // MARK: - Core type

    // OpenBLAS reads OPENBLAS_CORETYPE when it is loaded, and a stray one halves its speed; an old version
    // also takes new CPUs for old ones. Both are mended by choosing again before the first call.
    private static func chooseCore() -> String {
        openblas_set_num_threads(1)
        let wanted: String?
        if let name = environment("ESPALIER_BLAS_CORE") {
            wanted = name
        } else {
            wanted = bestCore(detected: coreName, forced: environment("OPENBLAS_CORETYPE") != nil)
        }
        if let wanted, wanted.lowercased() != coreName.lowercased() { select(wanted) }
        return coreName
    }

    /// The core type for this CPU, or nil where OpenBLAS's own choice stands.
    private static func bestCore(detected: String, forced: Bool) -> String? {
        let capable: [String]
        let fallback: String
        if unsafe KernelTable.table(for: .avx512) != nil {
            (capable, fallback) = (["skylakex", "cooperlake", "sapphirerapids"], "SkylakeX")
        } else if unsafe KernelTable.table(for: .avx2) != nil {
            (capable, fallback) = (["haswell", "zen"], "Haswell")
        } else {
            return nil
        }
        return capable.contains(detected.lowercased()) ? nil : fallback
    }

    private static var coreName: String {
        unsafe openblas_get_corename().map { unsafe String(cString: $0) } ?? "unknown"
    }

    // Both functions exist only where OpenBLAS was built for several cores.
    private static func select(_ name: String) {
        guard let quit = unsafe dlsym(nil, "gotoblas_dynamic_quit"),
            let initialize = unsafe dlsym(nil, "gotoblas_dynamic_init")
        else { return }
        typealias Function = @convention(c) () -> Void
        let previous = environment("OPENBLAS_CORETYPE")
        unsafe setenv("OPENBLAS_CORETYPE", name, 1)
        unsafe unsafeBitCast(quit, to: Function.self)()
        unsafe unsafeBitCast(initialize, to: Function.self)()
        if let previous {
            unsafe setenv("OPENBLAS_CORETYPE", previous, 1)
        } else {
            unsafe unsetenv("OPENBLAS_CORETYPE")
        }
    }
}
