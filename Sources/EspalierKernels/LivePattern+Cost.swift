package import EspalierTensors

/// What forward, input and weight gradient of a linear layer cost on one thread, in nanoseconds a token.
package struct SparseFloatCosts: Sendable, Hashable {
    /// A live weight, with single entries and with blocks.
    package var single: Double
    package var four: Double
    /// An input or an output: what is read and written, however many weights live.
    package var column: Double
    /// An input or an output that comes as rows and goes as rows, both ways.
    package var conversion: Double
    /// A weight of a dense layer.
    package var dense: Double

    /// Slopes between medians of `espalier-bench --only sparse/ --threads 1` at 80 and 95 %, 2048 x 1536 x 384, on an
    /// Intel Xeon with AVX-512. Nil where nothing was measured.
    package static func shipped(_ isa: ISA) -> SparseFloatCosts? {
        switch isa {
        case .scalar, .avx2: nil
        case .avx512, .vnni:
            SparseFloatCosts(
                single: 0.0627, four: 0.0475, column: 0.89, conversion: 0.87, dense: 0.0435)
        }
    }
}

extension LivePattern {
    /// Whether training with this pattern is faster than with a dense weight.
    ///
    /// - Parameters:
    ///   - fromRows: Whether operands and results are rows, which become blocks and back.
    ///   - margin: How much faster the dense products may be than those that were measured.
    package func pays(
        fromRows: Bool = true, margin: Double = 1.25, costs: SparseFloatCosts? = .shipped(.current)
    ) -> Bool {
        guard let costs else { return false }
        let entry = block == .single ? costs.single : costs.four
        let columns = costs.column + (fromRows ? costs.conversion : 0)
        let sparse = Double(count) * entry + Double(inputs + outputs) * columns
        return sparse * margin < Double(inputs * outputs) * costs.dense
    }
}
