/// What INT8 kernels cost on one kind of CPU, in nanoseconds: a plan chooses between dense and sparse by it.
///
/// It is data: the same table gives the same choices anywhere. `measured` makes one for this machine.
package struct CostTable: Sendable, Hashable, Codable {
    /// The dense kernel computes tiles of some rows by `width` outputs.
    package struct Dense: Sendable, Hashable, Codable {
        package var width: Int
        /// The rows of each tile, most first, the last one 1.
        package var tileRows: [Int]
        /// Four inputs of a tile.
        package var steps: [Double]
        /// A row of a tile, besides its inputs: sums to codes.
        package var result: Double
        /// What panels of 16 and 32 outputs take of the time of one of 64.
        package var narrow: [Double]
        /// A row of a convolution's window at an output pixel: finding it, and its share of filling up the image.
        package var tap: Double
    }

    /// A sparse kernel computes blocks of 64 tokens.
    package struct Sparse: Sendable, Hashable, Codable {
        /// A live block of weights, where 64 tokens of all inputs stay in the nearest cache, and where they do not.
        package var entry: Double
        package var farEntry: Double
        /// A live block of weights over planes: with aligned copies for 1x4 blocks, and where loads are not aligned.
        package var planarEntry: Double
        package var splitEntry: Double
        /// An output of 64 tokens.
        package var result: Double
        /// What 16 and 32 tokens take of the time of 64.
        package var narrow: [Double]
    }

    package var dense: Dense
    package var oneByFour: Sparse
    package var fourByFour: Sparse
    /// Four inputs, or outputs, of 64 tokens from rows to a block, and back, where there are many.
    package var toBlock: Double
    package var fromBlock: Double
    /// Four channels of a position, from rows to planes.
    package var toPlanes: Double

    package func sparse(_ block: SparseInt8.Block) -> Sparse {
        switch block {
        case .oneByFour: oneByFour
        case .fourByFour: fourByFour
        }
    }
}

// MARK: - Estimates

extension CostTable {
    /// A dense layer, in nanoseconds.
    ///
    /// - Parameters:
    ///   - depth: The inputs of an output; for a convolution, of all its taps.
    ///   - windowRows: Rows of a convolution's window, see `DenseConvolution`; 1 for a linear layer.
    package func dense(rows: Int, outputs: Int, depth: Int, windowRows: Int = 1) -> Double {
        let steps = Double((depth + 3) / 4)
        var (left, perPanel) = (rows, 0.0)
        for (tile, step) in zip(dense.tileRows, dense.steps) {
            perPanel += Double(left / tile) * steps * step
            left %= tile
        }
        perPanel += Double(rows) * dense.result
        var panels = Double((outputs + dense.width - 1) / dense.width)
        if dense.width > 16, (1...dense.width / 2).contains(outputs % 64) {
            // The last panel is narrower than 64, or than the kernel's tiles.
            panels += dense.narrow[outputs % 64 > 16 ? 1 : 0] - 1
        }
        return perPanel * panels + (windowRows > 1 ? Double(rows * windowRows) * dense.tap : 0)
    }

    /// A sparse linear layer, in nanoseconds.
    ///
    /// - Parameters:
    ///   - entries: `SparseInt8.liveBlocks`, or an estimate of it.
    ///   - fromRows: Whether operand and result are rows, which become blocks of tokens and back.
    package func sparse(
        block: SparseInt8.Block, entries: Int, outputs: Int, inputs: Int, rows: Int,
        fromRows: Bool = true
    ) -> Double {
        let costs = sparse(block)
        // Between two thirds of a cache of 48 KiB and a third more than it holds.
        let far = min(max((Double(inputs * 64) / 1024 - 32) / 32, 0), 1)
        let entry = costs.entry + far * (costs.farEntry - costs.entry)
        var perBlock = Double(entries) * entry + Double(outputs) * costs.result
        perBlock *= Double(rows / 64) + costs.share(rows % 64)
        guard fromRows else { return perBlock }
        // Sixteen tokens at a time.
        let parts = Double((rows + 15) / 16) / 4
        return perBlock
            + parts * (Double((inputs + 3) / 4) * toBlock + Double((outputs + 3) / 4) * fromBlock)
    }

    /// A sparse convolution over planes, in nanoseconds.
    package func sparse(
        block: SparseInt8.Block, entries: Int, outputs: Int, _ geometry: PlanarConvolution
    ) -> Double {
        let costs = sparse(block)
        let entry = geometry.isAligned ? costs.planarEntry : costs.splitEntry
        let perBlock = Double(entries) * entry + Double(outputs) * costs.result
        let sixteens = (outputs + 63) / 64 * geometry.resultParts
        return perBlock * geometry.tokens.reduce(0) { $0 + costs.share($1) }
            + Double(geometry.planeWords) * toPlanes
            + Double(sixteens) * 4 * fromBlock
    }
}

extension CostTable.Sparse {
    // What a block of so many tokens takes of the time of one of 64.
    fileprivate func share(_ tokens: Int) -> Double {
        tokens > 32 ? 1 : tokens > 16 ? narrow[1] : tokens > 0 ? narrow[0] : 0
    }
}

// MARK: - The choice

extension CostTable {
    package enum Choice: Sendable, Hashable {
        case dense, sparse
    }

    // Estimates are this good: within it the kernel without surprises is taken.
    private static let margin = 0.95

    /// The kernel for a linear layer: sparse only where it is faster.
    package func choose(
        block: SparseInt8.Block, entries: Int, outputs: Int, inputs: Int, rows: Int,
        fromRows: Bool = true
    ) -> Choice {
        guard SparseInt8.fits(outputs: outputs, taps: 1, channels: inputs) else { return .dense }
        let sparse = sparse(
            block: block, entries: entries, outputs: outputs, inputs: inputs, rows: rows,
            fromRows: fromRows)
        let dense = dense(rows: rows, outputs: outputs, depth: inputs)
        return sparse < CostTable.margin * dense ? .sparse : .dense
    }

    /// The kernel for a convolution whose window has a planar layout.
    package func choose(
        block: SparseInt8.Block, entries: Int, outputs: Int, _ geometry: PlanarConvolution
    ) -> Choice {
        guard SparseInt8.fits(outputs: outputs, taps: 1, channels: geometry.depth) else {
            return .dense
        }
        let sparse = sparse(block: block, entries: entries, outputs: outputs, geometry)
        let dense = dense(
            rows: geometry.images * geometry.outputPixels, outputs: outputs,
            depth: geometry.denseDepth, windowRows: geometry.windowRows)
        return sparse < CostTable.margin * dense ? .sparse : .dense
    }
}
