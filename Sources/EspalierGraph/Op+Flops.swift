package import EspalierTensors

extension Op {
    /// Floating-point operations of the op's products; a multiply and its add are two.
    ///
    /// Ops without products have none: their time is that of memory. The gradient for each of the two factors is a
    /// product of the same size.
    package func flops(_ operands: [Shape], result: Shape) -> Int {
        switch self {
        case .linear:
            return 2 * result.elementCount * operands[1][1]
        case .conv2D:
            return 2 * result.elementCount * operands[1].dropFirst().reduce(1, *)
        case .matMul(let op):
            let depth = MatMul.matrix(operands[0], isTransposed: op.transposesA).columns
            return 2 * result.elementCount * depth
        case .attention:
            // Scores, and values met with them.
            let keys = operands[1][1] * operands[0].dropLast().reduce(1, *)
            return 2 * keys * (operands[0][2] + operands[2][2])
        case .residualNorm, .add, .scale, .mask, .fakeQuantize, .relu, .maxPool2D, .averagePool2D,
            .batchNorm,
            .softmax, .dropout, .reshape, .crossEntropy, .distillation, .unary, .binary, .select,
            .fill, .reduce, .cumulativeSum, .permute, .slice, .concatenate, .pad, .expand,
            .triangle, .layerNorm, .gather, .take, .scatterAdd, .resample:
            return 0
        }
    }
}
