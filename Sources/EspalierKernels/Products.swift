package import CEspalierKernels
import EspalierTensors

/// Our own product of matrices, shared out over the pool.
///
/// Each sum is what it begins with, then one fused multiply-add after another in the order of depth, except for up to
/// four rows times contiguous rows, which are dot products. Goto and van de Geijn, "Anatomy of high-performance matrix
/// multiplication", ACM TOMS 2008.
@unsafe package struct Product {
    /// [rows, depth] and [depth, columns], as they are read.
    package let a: MatrixOperand
    package let b: MatrixOperand
    package let rows: Int
    package let columns: Int
    package let depth: Int
    /// Whether the factors are rounded to bfloat16, half to even.
    package var isRounded = false
    /// How they are multiplied then.
    package var halves = HalfProducts.widened
    /// What each column's sums begin with. [columns]
    package var bias: UnsafePointer<Float>?
    /// Whether they begin with C.
    package var accumulates = false
    /// Where the sums of A's rows go: [rows], for an A that is read transposed and not rounded.
    package var rowSums: UnsafeMutablePointer<Float>?
    /// The kernels to use.
    package var kernels = unsafe KernelTable.current

    private var isPaired: Bool { unsafe isRounded && halves == .native }

    package init(_ a: MatrixOperand, _ b: MatrixOperand, rows: Int, columns: Int, depth: Int) {
        unsafe (self.a, self.b) = unsafe (a, b)
        unsafe (self.rows, self.columns, self.depth) = (rows, columns, depth)
    }

    /// Computes C.
    ///
    /// - Parameter finish: Called with each part of C, its rows and columns, as soon as it is done.
    package func multiply(
        into c: UnsafeMutablePointer<Float>, pitch: Int,
        finish: (Range<Int>, Range<Int>) -> Void = { _, _ in }
    ) {
        guard unsafe rows > 0 && columns > 0 else { return }
        let plan = unsafe ProductPlan(
            rows: rows, columns: columns, depth: depth,
            ProductPlan.Factors(
                transposesA: a.isTransposed, transposesB: b.isTransposed, isRounded: isRounded,
                isPaired: isPaired, accumulates: accumulates))
        unsafe require(
            rowSums == nil || (a.isTransposed && !isRounded && plan.way == .direct),
            "sums of the rows of an operand that is not copied")
        switch plan.way {
        case .dots: unsafe multiplyDots(into: c, pitch: pitch, finish)
        case .direct:
            unsafe withRounded(a, rows, depth, !plan.packsA) { a in
                unsafe multiply(plan, a, b, into: c, pitch: pitch, finish)
            }
        case .transposed:
            unsafe withRounded(b.transposed, columns, depth, true) { b in
                unsafe multiply(plan, b, a.transposed, into: c, pitch: pitch) { finish($1, $0) }
            }
        }
    }

    // MARK: - Blocks

    private func multiply(
        _ plan: ProductPlan, _ a: MatrixOperand, _ b: MatrixOperand,
        into c: UnsafeMutablePointer<Float>, pitch: Int,
        _ finish: (Range<Int>, Range<Int>) -> Void
    ) {
        unsafe withPanels(of: b, plan) { packed in
            ThreadPool.shared.forEachChunk(plan.chunks) { chunk in
                let rows = plan.rowRange(chunk / plan.columnParts)
                let panels = plan.panelRange(chunk % plan.columnParts)
                for part in 0..<plan.depthParts {
                    let depth = plan.depthRange(part)
                    unsafe withBlock(of: a, plan, rows, depth, sums: panels.lowerBound == 0) { a in
                        let direct = panels.clamped(to: 0..<plan.firstPacked)
                        let copied = panels.clamped(to: plan.firstPacked..<plan.panels)
                        unsafe multiply(
                            plan, a, rows, direct,
                            (
                                b.base + depth.lowerBound * b.rowStride, b.rowStride,
                                ProductPlan.panel
                            ),
                            depth, into: c, pitch)
                        let first = (copied.lowerBound - plan.firstPacked) * plan.depth
                        unsafe multiply(
                            plan, a, rows, copied,
                            (
                                packed + (first + depth.lowerBound) * ProductPlan.panel,
                                ProductPlan.panel, plan.depth * ProductPlan.panel
                            ), depth, into: c, pitch)
                    }
                }
                let columns = panels.lowerBound * ProductPlan.panel
                finish(
                    rows, columns..<min(panels.upperBound * ProductPlan.panel, plan.columns))
            }
        }
    }

    // The base of B is that of panel 0 where it is read in place, else that of the first panel.
    private func multiply(
        _ plan: ProductPlan, _ a: MatrixOperand, _ rows: Range<Int>, _ panels: Range<Int>,
        _ b: (base: UnsafePointer<Float>, pitch: Int, panel: Int), _ depth: Range<Int>,
        into c: UnsafeMutablePointer<Float>, _ pitch: Int
    ) {
        guard !panels.isEmpty else { return }
        let isTransposed = plan.way == .transposed
        let first = panels.lowerBound * ProductPlan.panel
        let end = min(panels.upperBound * ProductPlan.panel, plan.columns)
        let isPacked = panels.lowerBound >= plan.firstPacked
        let isFirst = depth.lowerBound == 0
        let (row, column) = isTransposed ? (first, rows.lowerBound) : (rows.lowerBound, first)
        var block = unsafe esp_f32_product(
            a: a.base, a_row: a.rowStride, a_depth: a.columnStride,
            b: isPacked ? b.base : b.base + first, b_pitch: b.pitch, b_panel: b.panel,
            c: c + row * pitch + column, c_pitch: pitch, rows: rows.count, columns: end - first,
            depth: depth.count, bias: isFirst ? bias.map { unsafe $0 + column } : nil,
            accumulates: accumulates || !isFirst, transposed: isTransposed)
        if unsafe isPaired {
            unsafe kernels.bf16_product(&block)
        } else {
            unsafe kernels.f32_product(&block)
        }
    }

    /// Rows and depth of A, where they are or copied to lie together.
    private func withBlock(
        of a: MatrixOperand, _ plan: ProductPlan, _ rows: Range<Int>, _ depth: Range<Int>,
        sums: Bool, _ body: (MatrixOperand) -> Void
    ) {
        guard plan.packsA else {
            return unsafe body(a.from(row: rows.lowerBound, column: depth.lowerBound))
        }
        let elements = unsafe elements(depth)
        let corner = unsafe a.from(row: rows.lowerBound, column: elements.lowerBound)
        unsafe withScratch(rows.count * depth.count) { block in
            if unsafe isPaired {
                unsafe kernels.bf16_pair_rows(
                    corner.base, corner.pitch, elements.count, rows.count, block, rows.count)
            } else {
                unsafe kernels.f32_copy_rows(
                    corner.base, corner.pitch, elements.count, rows.count, isRounded, block,
                    rows.count)
            }
            if sums, let rowSums = unsafe rowSums {
                let sums = unsafe rowSums + rows.lowerBound
                if depth.lowerBound == 0 { unsafe sums.update(repeating: 0, count: rows.count) }
                unsafe kernels.f32_column_sums(block, depth.count, rows.count, sums)
            }
            unsafe body(MatrixOperand(block, pitch: rows.count, transposed: true))
        }
    }

    /// What some steps of the depth are in the factors.
    private func elements(_ steps: Range<Int>) -> Range<Int> {
        unsafe isPaired
            ? 2 * steps.lowerBound..<min(2 * steps.upperBound, depth) : steps
    }

    /// The panels of B that are copied, all of their depth: [panels][depth][32].
    private func withPanels(
        of b: MatrixOperand, _ plan: ProductPlan, _ body: (UnsafePointer<Float>) -> Void
    ) {
        let panels = plan.panels - plan.firstPacked
        guard panels > 0, plan.depth > 0 else { return unsafe body(b.base) }
        unsafe withScratch(panels * plan.depth * ProductPlan.panel) { packed in
            // Some thousand elements a chunk.
            let part = min(plan.depth, 256)
            let parts = (plan.depth + part - 1) / part
            let grain = max(512 / part, 1)
            ThreadPool.shared.forEachRange(panels * parts, grain: grain) { range in
                for index in range {
                    let column = (plan.firstPacked + index / parts) * ProductPlan.panel
                    let first = index % parts * part
                    let depth = unsafe elements(first..<min(first + part, plan.depth))
                    let from = unsafe b.from(row: depth.lowerBound, column: column)
                    let to =
                        unsafe packed
                        + (index / parts * plan.depth + first) * ProductPlan.panel
                    let columns = min(ProductPlan.panel, plan.columns - column)
                    if unsafe isPaired {
                        unsafe kernels.bf16_pack_panel(
                            from.base, from.rowStride, from.columnStride, depth.count, columns, to)
                    } else {
                        unsafe kernels.f32_pack_panel(
                            from.base, from.rowStride, from.columnStride, depth.count, columns,
                            isRounded, to)
                    }
                }
            }
            unsafe body(packed)
        }
    }

    /// An operand in rows rounded to bfloat16, where that is asked for and no copy will do it anyway.
    private func withRounded(
        _ x: MatrixOperand, _ rows: Int, _ columns: Int, _ isNeeded: Bool,
        _ body: (MatrixOperand) -> Void
    ) {
        guard unsafe isRounded && isNeeded else { return unsafe body(x) }
        unsafe require(!x.isTransposed, "rows of an operand that has none")
        let width = unsafe isPaired ? (columns + 1) / 2 : columns
        unsafe withScratch(rows * width) { rounded in
            ThreadPool.shared.forEachRange(rows, grain: max(16_384 / max(columns, 1), 1)) {
                let from = unsafe x.base + $0.lowerBound * x.pitch
                let to = unsafe rounded + $0.lowerBound * width
                if unsafe isPaired {
                    unsafe kernels.bf16_pair_columns(from, x.pitch, $0.count, columns, to, width)
                } else {
                    unsafe kernels.f32_copy_rows(
                        from, x.pitch, $0.count, columns, true, to, width)
                }
            }
            unsafe body(MatrixOperand(rounded, pitch: width))
        }
    }

    // MARK: - Dots

    private func multiplyDots(
        into c: UnsafeMutablePointer<Float>, pitch: Int,
        _ finish: (Range<Int>, Range<Int>) -> Void
    ) {
        let grain = unsafe max(65_536 / max(depth, 1) / 4 * 4, 4)
        unsafe ThreadPool.shared.forEachRange(columns, grain: grain) { part in
            for row in unsafe 0..<rows {
                unsafe kernels.f32_dots(
                    b.base + part.lowerBound * b.pitch, b.pitch, a.base + row * a.pitch,
                    bias.map { unsafe $0 + part.lowerBound }, part.count, depth,
                    c + row * pitch + part.lowerBound)
            }
            unsafe finish(0..<rows, part)
        }
    }

    private func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
        _ = unsafe Tensor([count]) { unsafe body($0) }
    }
}
