package import EspalierTensors

extension Graph {
    /// The bias of a layer in floats, where it is stored in units of its sums; nil where it is not, or where its units
    /// are not known.
    package func floatBias(of index: Int) -> Tensor? {
        let operands = nodes[index].operands
        guard operands.count > 2, case .constant(let bias) = operands[2],
            case .sums(let sums) = constants[bias].value, case .constant(let weight) = operands[1],
            case .codes(let codes) = constants[weight].value, codes.isPerOutput,
            codes.shape.first == sums.count, let grid = grid(of: operands[0]),
            grid.scales.count == 1
        else { return nil }
        // In doubles: a product of two small scales may be no normal float.
        let values = zip(sums, codes.scalesOfOutputs).map {
            Float(Double($0) * (Double(grid.scales[0]) * Double($1)))
        }
        return Tensor(values, shape: [sums.count])
    }
}
