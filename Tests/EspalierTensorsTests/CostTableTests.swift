import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// Properties of the tables that ship; that their choices are fast is for the benchmark to show.
@Suite struct CostTableTests {
    private static let blocks: [(SparseInt8.Block, Int)] = [(.oneByFour, 4), (.fourByFour, 16)]

    @Test(arguments: ISA.allCases) func coefficientsArePositive(_ isa: ISA) {
        let table = CostTable.shipped(isa)
        #expect(table.dense.tileRows.count == table.dense.steps.count)
        #expect(table.dense.tileRows.last == 1)
        #expect(table.dense.tileRows == table.dense.tileRows.sorted(by: >))
        #expect(
            table.dense.steps.allSatisfy { $0 > 0 } && table.dense.result >= 0
                && table.dense.tap >= 0)
        for block in [SparseInt8.Block.oneByFour, .fourByFour] {
            let costs = table.sparse(block)
            #expect(costs.entry > 0 && costs.result > 0)
            #expect(costs.farEntry > 0 && costs.planarEntry > 0 && costs.splitEntry > 0)
        }
        #expect(table.toBlock > 0 && table.fromBlock > 0 && table.toPlanes > 0)
    }

    @Test(arguments: ISA.allCases) func moreWorkTakesLonger(_ isa: ISA) {
        let table = CostTable.shipped(isa)
        let times = [6, 12, 24, 96, 120].map { table.dense(rows: $0, outputs: 256, depth: 384) }
        #expect(zip(times, times.dropFirst()).allSatisfy(<))
        #expect(
            table.dense(rows: 64, outputs: 256, depth: 400)
                > table.dense(rows: 64, outputs: 256, depth: 384))
        #expect(
            table.dense(rows: 64, outputs: 320, depth: 384)
                > table.dense(rows: 64, outputs: 256, depth: 384))
        // A last panel of few outputs is not cheaper than none.
        #expect(
            table.dense(rows: 64, outputs: 266, depth: 384)
                > table.dense(rows: 64, outputs: 256, depth: 384))
        for (block, _) in CostTableTests.blocks {
            func sparse(_ entries: Int, _ outputs: Int, _ inputs: Int, _ rows: Int) -> Double {
                table.sparse(
                    block: block, entries: entries, outputs: outputs, inputs: inputs, rows: rows)
            }
            let base = sparse(1_000, 256, 384, 64)
            #expect(sparse(1_001, 256, 384, 64) > base)
            #expect(sparse(1_000, 260, 384, 64) > base)
            #expect(sparse(1_000, 256, 388, 64) > base)
            #expect(sparse(1_000, 256, 384, 65) > base)
            // A block of 64 tokens is computed as a whole, unless few of them are there.
            #expect(sparse(1_000, 256, 384, 49) == base)
            #expect(sparse(1_000, 256, 384, 1) < base)
            #expect(sparse(1_000, 256, 384, 16) <= sparse(1_000, 256, 384, 17))
            #expect(
                table.sparse(
                    block: block, entries: 1_000, outputs: 256, inputs: 384, rows: 64,
                    fromRows: false) < base)
        }
    }

    @Test(arguments: ISA.allCases) func choices(_ isa: ISA) {
        let table = CostTable.shipped(isa)
        let (inputs, outputs) = (384, 1536)
        for (block, size) in CostTableTests.blocks {
            func choice(_ density: Double, _ rows: Int) -> CostTable.Choice {
                let entries = Int(Double(inputs * outputs / size) * density)
                return table.choose(
                    block: block, entries: entries, outputs: outputs, inputs: inputs, rows: rows)
            }
            #expect(choice(0.01, 128) == .sparse)
            // Sixteen tokens cost too much for one.
            #expect(choice(0.1, 1) == .dense)
            // Once sparse is chosen, it is for anything sparser.
            let chosen = stride(from: 1, through: 0, by: -0.01).map { choice($0, 128) }
            #expect(chosen.drop { $0 == .dense }.allSatisfy { $0 == .sparse })
        }
        // One token costs the dense kernel with a dot product what sixty-four cost a full sparse one.
        if isa == .vnni || isa == .avx512 {
            #expect(
                table.choose(
                    block: .oneByFour, entries: inputs * outputs / 4, outputs: outputs,
                    inputs: inputs, rows: 128) == .dense)
        }
        // Blocks of four do not divide ten outputs.
        #expect(
            table.choose(
                block: .oneByFour, entries: 0, outputs: 10, inputs: 64, rows: 128) == .dense)
    }

    @Test(arguments: ISA.allCases) func convolutions(_ isa: ISA) throws {
        let table = CostTable.shipped(isa)
        var window = esp_window.linear(rows: 28, channels: 64)
        (window.height, window.out_height) = (28, 28)
        (window.kernel_height, window.kernel_width, window.pad_top, window.pad_left) = (3, 3, 1, 1)
        for (block, size) in CostTableTests.blocks {
            let one = try #require(PlanarConvolution(window, block: block))
            let two = try #require(PlanarConvolution(window, block: block, images: 2))
            func time(_ geometry: PlanarConvolution, _ entries: Int) -> Double {
                table.sparse(block: block, entries: entries, outputs: 64, geometry)
            }
            #expect(time(one, 500) > time(one, 400))
            #expect(time(two, 500) > 1.5 * time(one, 500))
            let entries = 64 * 9 * 64 / size
            #expect(
                table.choose(block: block, entries: entries / 50, outputs: 64, one) == .sparse)
        }
    }
}
