package import EspalierTensors

// Medians of 1 runs of `ESPALIER_ISA=... espalier-bench --tune` for each ISA, on one thread of an Intel Xeon with
// 48 KiB of first and 2 MiB of second level of cache.
extension CostTable {
    /// The table that ships for an ISA.
    package static func shipped(_ isa: ISA) -> CostTable {
        switch isa {
        case .scalar:
            CostTable(
                dense: Dense(
                    width: 1, tileRows: [1], steps: [2.4], result: 10.5,
                    narrow: [1, 1], tap: 729),
                oneByFour: Sparse(
                    entry: 128, farEntry: 119, planarEntry: 111, splitEntry: 106, result: 114,
                    narrow: [0.252, 0.504]),
                fourByFour: Sparse(
                    entry: 518, farEntry: 470, planarEntry: 438, splitEntry: 438, result: 95.6,
                    narrow: [0.253, 0.504]),
                toBlock: 95.1, fromBlock: 106, toPlanes: 4.37)
        case .avx2:
            CostTable(
                dense: Dense(
                    width: 32, tileRows: [2, 1], steps: [5.73, 5.37], result: 57.4,
                    narrow: [0.544, 1], tap: 0),
                oneByFour: Sparse(
                    entry: 6.64, farEntry: 7.14, planarEntry: 7.14, splitEntry: 7.19, result: 34.2,
                    narrow: [0.251, 0.516]),
                fourByFour: Sparse(
                    entry: 28, farEntry: 25.7, planarEntry: 26.5, splitEntry: 26.5, result: 32,
                    narrow: [0.257, 0.501]),
                toBlock: 13.4, fromBlock: 15.5, toPlanes: 0.142)
        case .avx512:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [20.7, 14.1, 8.16, 5.46],
                    result: 1.61,
                    narrow: [0.321, 0.549], tap: 0.781),
                oneByFour: Sparse(
                    entry: 4.38, farEntry: 4.46, planarEntry: 4.13, splitEntry: 4.62, result: 4.77,
                    narrow: [0.349, 0.567]),
                fourByFour: Sparse(
                    entry: 13.8, farEntry: 13.6, planarEntry: 14.1, splitEntry: 14.1, result: 4.66,
                    narrow: [0.355, 0.575]),
                toBlock: 7.51, fromBlock: 7.46, toPlanes: 0.198)
        case .vnni:
            CostTable(
                dense: Dense(
                    width: 64, tileRows: [6, 4, 2, 1], steps: [3.93, 2.58, 2.1, 1.91], result: 4.33,
                    narrow: [0.544, 0.606], tap: 1.24),
                oneByFour: Sparse(
                    entry: 0.911, farEntry: 1.22, planarEntry: 1.07, splitEntry: 1.84, result: 5.12,
                    narrow: [0.408, 0.629]),
                fourByFour: Sparse(
                    entry: 2.81, farEntry: 2.74, planarEntry: 2.36, splitEntry: 2.36, result: 3.32,
                    narrow: [0.329, 0.59]),
                toBlock: 7.5, fromBlock: 7.71, toPlanes: 0.137)
        }
    }
}
