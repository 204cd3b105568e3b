public import EspalierEngine
import EspalierGraph

/// What stands between two linear layers, under the names that transformers' configurations have.
public enum ActivationFunction: String, Sendable, Hashable, Codable, CaseIterable {
    case relu, tanh, silu
    /// x Φ(x)
    case gelu
    /// The same with tanh for erf.
    case geluTanh = "gelu_new"

    var attribute: Op.Linear.Activation {
        switch self {
        case .relu: .relu
        case .tanh: .unary(.tanh)
        case .silu: .unary(.silu)
        case .gelu: .unary(.gelu)
        case .geluTanh: .unary(.geluTanh)
        }
    }

    /// The function of each element.
    public func callAsFunction(_ x: Value) -> Value {
        switch self {
        case .relu: x.relu()
        case .tanh: x.tanh()
        case .silu: x.silu()
        case .gelu: x.gelu()
        case .geluTanh: x.gelu(approximately: true)
        }
    }
}

extension Linear {
    /// An activation of the layer's outputs, in one pass where the tape is for training. [..., inputs] -> [..., outputs]
    public func callAsFunction(_ x: Value, _ activation: ActivationFunction) -> Value {
        x.linear(
            weight: x.tape.parameter(weight), bias: bias.map { x.tape.parameter($0) },
            activation: activation.attribute)
    }
}
