package import EspalierTensors

// Medians of 3 runs of `ESPALIER_ISA=... espalier-bench --tune` for each ISA, on one thread of an Intel Xeon with
// 48 KiB of first and 2 MiB of second level of cache.
extension CostTable {
    /// The table that ships for an ISA.
    package static func shipped(_ isa: ISA) -> CostTable {
        switch isa {
        case .scalar:
            CostTable(
                dense: Dense(
                    width: 1, tileRows: [1], steps: [2.51], result: 10.1,
                    narrow: [1, 1], tap: 380),
                oneByFour: Sparse(
                    entry: 128, farEntry: 117, planarEntry: 108, splitEntry: 105, result: 115,
                    narrow: [0.253, 0.505]),
                fourByFour: Sparse(
                    entry: 509, farEntry: 461, planarEntry: 419, splitEntry: 419, result: 118,
                    narrow: [0.254, 0.504]),
                toBlock: 91.1, fromBlock: 106, toPlanes: 4.92)
        case .avx2:
            CostTable(
                dense: Dense(
                    width: 32, tileRows: [2, 1], steps: [5.75, 5.77], result: 57.1,
                    narrow: [0.54, 1], tap: 0.567),
                oneByFour: Sparse(
                    entry: 7.01, farEntry: 7.12, planarEntry: 7.06, splitEntry: 7.17, result: 31.9,
                    narrow: [0.252, 0.501]),
                fourByFour: Sparse(
                    entry: 27.9, farEntry: 28.1, planarEntry: 26.3, splitEntry: 26.3, result: 32.1,
                    narrow: [0.249, 0.499]),
                toBlock: 13.8, fromBlock: 15.3, toPlanes: 0.185)
        case .avx512:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [20.4, 14.4, 8.32, 5.39],
                    result: 4.94,
                    narrow: [0.331, 0.55], tap: 0),
                oneByFour: Sparse(
                    entry: 4.52, farEntry: 4.55, planarEntry: 4.55, splitEntry: 4.77, result: 4.94,
                    narrow: [0.36, 0.567]),
                fourByFour: Sparse(
                    entry: 14.5, farEntry: 14.5, planarEntry: 13.9, splitEntry: 13.9, result: 3.88,
                    narrow: [0.354, 0.574]),
                toBlock: 7.71, fromBlock: 7.66, toPlanes: 0.122)
        case .vnni:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [4.01, 2.63, 2.09, 1.9], result: 4.79,
                    narrow: [0.522, 0.581], tap: 0.756),
                oneByFour: Sparse(
                    entry: 0.94, farEntry: 1.21, planarEntry: 1.07, splitEntry: 2, result: 5,
                    narrow: [0.405, 0.611]),
                fourByFour: Sparse(
                    entry: 2.68, farEntry: 2.7, planarEntry: 2.63, splitEntry: 2.63, result: 3.92,
                    narrow: [0.319, 0.586]),
                toBlock: 7.74, fromBlock: 7.61, toPlanes: 0.133)
        }
    }
}
