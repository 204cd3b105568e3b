public import EspalierEngine
import EspalierTensors

/// Layer normalization over the last axis. [..., size] -> [..., size]
///
/// Ba, Kiros and Hinton, "Layer normalization", 2016.
public struct LayerNorm: Layer {
    /// Scale of each feature. [size]
    public let weight: Parameter
    /// Shift of each feature. [size]
    public let bias: Parameter
    /// Added to the variance.
    public let epsilon: Float

    /// A layer over rows of `size`.
    public init(size: Int, epsilon: Float = 1e-5) {
        weight = Parameter(Tensor(repeating: 1, shape: [size]))
        bias = Parameter(.zeros([size]))
        self.epsilon = epsilon
    }

    public func callAsFunction(_ x: Value) -> Value {
        x.layerNorm(
            weight: x.tape.parameter(weight), bias: x.tape.parameter(bias), epsilon: epsilon)
    }

    /// The norm of x + residual, as behind each part of an encoder.
    public func callAsFunction(_ x: Value, adding residual: Value) -> Value {
        guard x.shape == residual.shape else { return self(x + residual) }
        return x.residualNorm(
            residual, weight: x.tape.parameter(weight), bias: x.tape.parameter(bias),
            epsilon: epsilon)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("weight", weight)
        visitor.visit("bias", bias)
    }
}
