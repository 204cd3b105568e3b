public import EspalierEngine
public import EspalierTensors

/// A fully connected layer: x Wᵀ + b. [..., inputs] -> [..., outputs]
public struct Linear: Layer {
    /// [outputs, inputs]
    public let weight: Parameter
    /// [outputs]
    public let bias: Parameter?

    /// A layer with weights drawn from `random`.
    public init(
        inputs: Int, outputs: Int, bias: Bool = true, initializer: Initializer = .heNormal,
        random: RandomStream
    ) {
        weight = Parameter(
            linearWeight: initializer.tensor([outputs, inputs], fanIn: inputs, random: random))
        self.bias = bias ? Parameter(.zeros([outputs])) : nil
    }

    public func callAsFunction(_ x: Value) -> Value {
        x.linear(weight: x.tape.parameter(weight), bias: bias.map { x.tape.parameter($0) })
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("weight", weight)
        if let bias { visitor.visit("bias", bias) }
    }
}

/// How a weight begins.
public enum Initializer: Sendable, Hashable {
    /// Normal with variance 2 / fan-in, for layers before a ReLU (He et al., ICCV 2015).
    case heNormal
    /// Uniform within ±1 / sqrt(fan-in), for a last layer.
    case uniform
    /// Normal with a deviation of its own, whatever the fan-in, as in transformers.
    case normal(deviation: Float)

    /// A tensor for a weight whose outputs each sum `fanIn` products.
    public func tensor(_ shape: Shape, fanIn: Int, random: RandomStream) -> Tensor {
        let count = shape.elementCount
        let fanIn = Float(max(fanIn, 1))
        switch self {
        case .heNormal:
            let deviation = (2 / fanIn).squareRoot()
            return Tensor(random.normal(count).map { $0 * deviation }, shape: shape)
        case .uniform:
            let bound = 1 / fanIn.squareRoot()
            return Tensor(random.uniform(count).map { (2 * $0 - 1) * bound }, shape: shape)
        case .normal(let deviation):
            return Tensor(random.normal(count).map { $0 * deviation }, shape: shape)
        }
    }
}
