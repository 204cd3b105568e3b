package import EspalierTensors

// Medians of seven runs of `ESPALIER_ISA=... espalier-bench --tune` for each ISA, on one thread of an Intel Xeon with
// 48 KiB of first and 2 MiB of second level of cache.
extension CostTable {
    /// The table that ships for an ISA.
    package static func shipped(_ isa: ISA) -> CostTable {
        switch isa {
        case .scalar:
            CostTable(
                dense: Dense(width: 1, tileRows: [1], steps: [2.69], result: 10.3, tap: 395),
                oneByFour: Sparse(
                    entry: 128, farEntry: 133, planarEntry: 142, splitEntry: 112, result: 145),
                fourByFour: Sparse(
                    entry: 506, farEntry: 521, planarEntry: 473, splitEntry: 473, result: 118),
                toBlock: 134, fromBlock: 105, toPlanes: 3.48)
        case .avx2:
            CostTable(
                dense: Dense(
                    width: 32, tileRows: [2, 1], steps: [5.74, 5.55], result: 56.9, tap: 2.48),
                oneByFour: Sparse(
                    entry: 6.84, farEntry: 7.11, planarEntry: 6.96, splitEntry: 7.12, result: 31.9),
                fourByFour: Sparse(
                    entry: 27.8, farEntry: 27.8, planarEntry: 26.9, splitEntry: 26.9, result: 32),
                toBlock: 13.3, fromBlock: 15.3, toPlanes: 0.201)
        case .avx512:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [20.5, 14.6, 8.31, 5.43],
                    result: 5.88, tap: 2.72),
                oneByFour: Sparse(
                    entry: 4.53, farEntry: 4.55, planarEntry: 4.54, splitEntry: 4.73, result: 4.93),
                fourByFour: Sparse(
                    entry: 14.5, farEntry: 14.5, planarEntry: 14.6, splitEntry: 14.6, result: 3.89),
                toBlock: 7.78, fromBlock: 7.71, toPlanes: 0.122)
        case .vnni:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [4.01, 2.7, 2.07, 1.87], result: 5.88,
                    tap: 2.46),
                oneByFour: Sparse(
                    entry: 0.964, farEntry: 1.21, planarEntry: 1.06, splitEntry: 2.01, result: 4.86),
                fourByFour: Sparse(
                    entry: 2.68, farEntry: 2.7, planarEntry: 2.75, splitEntry: 2.75, result: 3.91),
                toBlock: 7.78, fromBlock: 7.69, toPlanes: 0.135)
        }
    }
}
