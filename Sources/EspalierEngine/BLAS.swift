import COpenBLAS
package import EspalierKernels
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

    package typealias Operand = MatrixOperand

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
        let grid = TileGrid(rows: rows, columns: columns, depth: depth)
        ThreadPool.shared.forEachChunk(grid.count) { index in
            let (rows, columns) = grid.tile(index)
            unsafe multiply(
                a.from(row: rows.lowerBound), b.from(column: columns.lowerBound),
                into: c + rows.lowerBound * pitch + columns.lowerBound, pitch: pitch,
                rows: rows.count, columns: columns.count, depth: depth)
        }
    }

    /// A product's tiles: the largest squares that leave enough of them to share out.
    ///
    /// A call packs both its operands: a tile of t x t spends about 1 / t of its time on that.
    struct TileGrid {
        private let rows: Int
        private let columns: Int
        private let tileRows: Int
        private let tileColumns: Int
        private var across: Int { (columns + tileColumns - 1) / tileColumns }

        var count: Int { (rows + tileRows - 1) / tileRows * across }

        init(rows: Int, columns: Int, depth: Int) {
            (self.rows, self.columns) = (rows, columns)
            let operations = 2 * Double(rows) * Double(columns) * Double(depth)
            // Below a few million operations one call is over before another thread has begun.
            var side = max(rows, columns, 1)
            if operations > 3e6 {
                let sides = [512, 384, 256, 192, 128]
                side = sides.first { TileGrid.count(rows, columns, $0) >= 4 } ?? 64
            }
            tileRows = TileGrid.even(rows, side)
            tileColumns = TileGrid.even(columns, side)
        }

        func tile(_ index: Int) -> (rows: Range<Int>, columns: Range<Int>) {
            let (row, column) = (index / across * tileRows, index % across * tileColumns)
            return (
                row..<min(row + tileRows, rows), column..<min(column + tileColumns, columns)
            )
        }

        private static func count(_ rows: Int, _ columns: Int, _ side: Int) -> Int {
            (rows + side - 1) / side * ((columns + side - 1) / side)
        }

        // Equal parts of at most `side`, in multiples of 16.
        private static func even(_ extent: Int, _ side: Int) -> Int {
            let parts = max((extent + side - 1) / side, 1)
            return max(((extent + parts - 1) / parts + 15) / 16 * 16, 16)
        }
    }

    // MARK: - Core type

    // OpenBLAS reads OPENBLAS_CORETYPE when it is loaded, and a stray one halves its speed; an old version
    // also takes new CPUs for old ones. Both are mended by choosing again before the first call.
    private static func chooseCore() -> String {
        openblas_set_num_threads(1)
        if let name = environment("ESPALIER_BLAS_CORE") {
            detect(as: name)
            guard coreName.lowercased() == name.lowercased() else {
                endProcess(
                    "ESPALIER_BLAS_CORE=\(name): this OpenBLAS does not have it, and chose \(coreName)"
                )
            }
            return coreName
        }
        // As if nothing were exported.
        if environment("OPENBLAS_CORETYPE") != nil { detect(as: nil) }
        if let better = betterCore(than: coreName) { detect(as: better) }
        return coreName
    }

    /// The core type for this CPU, or nil where OpenBLAS's own choice stands.
    private static func betterCore(than detected: String) -> String? {
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
    private static func detect(as name: String?) {
        guard let quit = unsafe dlsym(nil, "gotoblas_dynamic_quit"),
            let initialize = unsafe dlsym(nil, "gotoblas_dynamic_init")
        else { return }
        typealias Function = @convention(c) () -> Void
        if let name {
            unsafe setenv("OPENBLAS_CORETYPE", name, 1)
        } else {
            unsafe unsetenv("OPENBLAS_CORETYPE")
        }
        unsafe unsafeBitCast(quit, to: Function.self)()
        unsafe unsafeBitCast(initialize, to: Function.self)()
        unsafe unsetenv("OPENBLAS_CORETYPE")
    }
}
