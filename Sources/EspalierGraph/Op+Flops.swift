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
        case .conv2D(let op):
            // The result may be that of a pooling in the same pass.
            let (x, weight) = (operands[0], operands[1])
            let image = Size2D(x[1], x[2])
            let positions =
                op.window(weight: weight).positions(over: image).map { $0.height * $0.width } ?? 0
            return 2 * x[0] * positions * weight.elementCount
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
