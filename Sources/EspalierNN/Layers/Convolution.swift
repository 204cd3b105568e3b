public import EspalierEngine
package import EspalierGraph
public import EspalierTensors

/// A two-dimensional convolution over channels-last images. [N, H, W, inputs] -> [N, OH, OW, outputs]
public struct Convolution2D: Layer {
    /// [outputs, kernel, kernel, inputs]
    public let weight: Parameter
    /// [outputs]
    public let bias: Parameter?
    /// Pixels between two positions.
    public let stride: Int
    /// Rows and columns of zeros on each side.
    public let padding: Int

    /// A layer with a square kernel and weights drawn from `random`.
    public init(
        inputs: Int, outputs: Int, kernel: Int, stride: Int = 1, padding: Int = 0,
        bias: Bool = true, random: RandomStream
    ) {
        let fanIn = kernel * kernel * inputs
        weight = Parameter(
            Initializer.heNormal.tensor(
                [outputs, kernel, kernel, inputs], fanIn: fanIn, random: random))
        self.bias = bias ? Parameter(.zeros([outputs])) : nil
        self.stride = stride
        self.padding = padding
    }

    public func callAsFunction(_ x: Value) -> Value { self(x, activation: .none) }

    /// The layer with what follows it, in one pass while training.
    package func callAsFunction(_ x: Value, activation: Op.Conv2D.Activation) -> Value {
        x.conv2D(
            weight: x.tape.parameter(weight), bias: bias.map { x.tape.parameter($0) },
            Op.Conv2D(stride: Size2D(stride), padding: Padding2D(Size2D(padding))),
            activation: activation)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("weight", weight)
        if let bias { visitor.visit("bias", bias) }
    }
}

/// The largest of each square window. [N, H, W, C] -> [N, OH, OW, C]
public struct MaxPool2D: Layer {
    /// The window's side, and the distance of two windows.
    public let kernel: Int

    /// Windows of kernel x kernel, side by side.
    public init(kernel: Int) { self.kernel = kernel }

    public func callAsFunction(_ x: Value) -> Value {
        x.maxPool2D(Window2D(kernel: Size2D(kernel), stride: Size2D(kernel)))
    }

    public func visit(_ visitor: inout some ModuleVisitor) {}
}
