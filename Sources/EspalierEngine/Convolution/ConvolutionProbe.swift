package import EspalierGraph
package import EspalierTensors

/// A convolution's passes one by one, for benchmarks.
package enum ConvolutionProbe {
    /// The result as in training. [N, H, W, in], [out, kh, kw, in / groups] -> [N, OH, OW, out]
    package static func forward(_ op: Op.Conv2D, _ x: Tensor, _ weight: Tensor) -> Tensor {
        ConvolutionPlan(op, x: x.shape, weight: weight.shape)
            .forward(x, weight, nil, isTraining: true).result
    }

    /// The gradients that are asked for.
    package static func gradients(
        _ op: Op.Conv2D, _ x: Tensor, _ weight: Tensor, _ dy: Tensor, x needsX: Bool = false,
        weight needsWeight: Bool = false
    ) -> (dx: Tensor?, dw: Tensor?) {
        let result = ConvolutionPlan(op, x: x.shape, weight: weight.shape).gradients(
            x, weight, ConvolutionPlan.Upstream(dy: dy, result: nil), rounded: nil,
            ConvolutionPlan.Needs(x: needsX, weight: needsWeight, bias: false))
        return (result.dx, result.dw)
    }
}
