import CEspalierKernels
import EspalierTensors

/// A row-major matrix in memory; `isTransposed` means that a product reads its transpose.
@unsafe package struct MatrixOperand {
    package let base: UnsafePointer<Float>
    /// From one row in memory to the next, in elements.
    package let pitch: Int
    package let isTransposed: Bool

    package init(_ base: UnsafePointer<Float>, pitch: Int, transposed: Bool = false) {
        unsafe self.base = unsafe base
        unsafe self.pitch = pitch
        unsafe isTransposed = transposed
    }

    /// From one row, as the product reads it, to the next.
    var rowStride: Int { unsafe isTransposed ? 1 : pitch }
    var columnStride: Int { unsafe isTransposed ? pitch : 1 }

    var transposed: MatrixOperand {
        unsafe MatrixOperand(base, pitch: pitch, transposed: !isTransposed)
    }

    /// What is left from a row and a column of the matrix as the product reads it.
    package func from(row: Int = 0, column: Int = 0) -> MatrixOperand {
        unsafe MatrixOperand(
            base + row * rowStride + column * columnStride, pitch: pitch, transposed: isTransposed)
    }
}

/// How a product of given extents is computed. It depends on the extents alone.
package struct ProductPlan: Sendable, Equatable {
    enum Way { case direct, transposed, dots }

    /// What one side of the product is.
    struct Factors {
        var transposesA = false
        var transposesB = false
        var isRounded = false
        /// Whether two elements along the depth are one step.
        var isPaired = false
        var accumulates = false
    }

    // The choices below were measured on 2 MB and 1 MB of second-level cache.

    /// Rows of a block of A, and the depth that it and a panel of B have at a time: half a megabyte.
    private static let blockRows = 224
    private static let blockDepth = 512
    /// The operations of a chunk at least, and the number of chunks at most.
    private static let leastWork = 5e5
    private static let mostChunks = 32
    /// Rows of a chunk at least, where there are as many.
    private static let leastRows = 112
    /// Rows that pay a copy of B.
    private static let manyRows = 512
    /// Up to so many rows are dot products with the rows of B, where these are contiguous.
    private static let mostDots = 4

    let way: Way
    /// Of C, or of its transpose where that is computed.
    let rows: Int
    let columns: Int
    /// In steps: elements, or pairs of them.
    let depth: Int
    /// Whether each block of A is copied: its rows are not contiguous, and would be read across pages.
    let packsA: Bool
    /// The first panel of B that is copied: all of them where its columns are contiguous, the last one where it is
    /// narrower than vectors are.
    let firstPacked: Int
    let rowParts: Int
    let columnParts: Int
    let depthParts: Int

    var panels: Int { (columns + ProductPlan.panel - 1) / ProductPlan.panel }
    var chunks: Int { rowParts * columnParts }

    static let panel = Int(ESP_PANEL)

    init(rows: Int, columns: Int, depth: Int, _ factors: Factors) {
        if factors.transposesB, !factors.transposesA, !factors.isRounded, !factors.accumulates,
            rows <= ProductPlan.mostDots
        {
            way = .dots
        } else if factors.transposesB, !factors.accumulates,
            ProductPlan.prefersTranspose(rows: rows, columns: columns, depth: depth)
        {
            way = .transposed
        } else {
            way = .direct
        }
        let swaps = way == .transposed
        let (m, n) = swaps ? (columns, rows) : (rows, columns)
        let work = 2 * Double(m) * Double(n) * Double(depth)
        let depth = factors.isPaired ? (depth + 1) / 2 : depth
        (self.rows, self.columns, self.depth) = (m, n, depth)
        // Computing the transpose, A is Bᵀ and B is Aᵀ.
        // Rows of B that are far apart in the same places of the cache pay a copy where they meet many rows of A.
        let collides = !swaps && m >= ProductPlan.manyRows && n % 512 == 0
        let copiesB =
            factors.isRounded || collides || (swaps ? !factors.transposesA : factors.transposesB)
        let panels = (n + ProductPlan.panel - 1) / ProductPlan.panel
        firstPacked = copiesB ? 0 : n % 16 == 0 ? panels : panels - 1
        packsA = swaps ? false : factors.transposesA
        if packsA {
            depthParts = max((depth + ProductPlan.blockDepth - 1) / ProductPlan.blockDepth, 1)
        } else if swaps || depth <= 3 * ProductPlan.blockDepth / 2 {
            depthParts = 1
        } else {
            depthParts = (depth + ProductPlan.blockDepth - 1) / ProductPlan.blockDepth
        }
        let wanted = min(max(Int(work / ProductPlan.leastWork), 1), ProductPlan.mostChunks)
        // A panel of B that is read in place, or a block of A that is copied, should meet many rows or columns.
        let least = (m + ProductPlan.blockRows - 1) / ProductPlan.blockRows
        let tallest = m / (packsA ? 42 : ProductPlan.leastRows)
        let parts = max(
            least, min(packsA ? wanted : (wanted + panels - 1) / panels * 4, tallest), 1)
        // Few parts are shared out evenly where there are as many for each of two threads.
        rowParts = parts > 1 ? parts / 2 * 2 : 1
        let across = packsA && rowParts >= 8 ? 1 : (wanted + rowParts - 1) / rowParts
        columnParts = max(min(across, panels), 1)
    }

    /// Whether to compute Cᵀ = B Aᵀ, for B in rows: the copy of a small A and the transposition of C are less than the
    /// copy of B. In elements, where one of a large B counts more because it leaves the cache.
    private static func prefersTranspose(rows: Int, columns: Int, depth: Int) -> Bool {
        let copy = columns * depth * (columns * depth > 1 << 18 ? 3 : 1)
        return copy > rows * depth + 2 * rows * columns
    }

    func rowRange(_ part: Int) -> Range<Int> {
        rows * part / rowParts..<rows * (part + 1) / rowParts
    }

    func panelRange(_ part: Int) -> Range<Int> {
        panels * part / columnParts..<panels * (part + 1) / columnParts
    }

    func depthRange(_ part: Int) -> Range<Int> {
        depth * part / depthParts..<depth * (part + 1) / depthParts
    }
}
