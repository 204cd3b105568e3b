public import EspalierEngine
import EspalierGraph
public import EspalierTensors

/// Two 3x3 convolutions with batch norms, and the input added before the last ReLU.
/// [N, H, W, inputs] -> [N, H / stride, W / stride, outputs]
///
/// He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016. Where the shape changes the input goes
/// through a 1x1 convolution with a norm of its own (their option B).
public struct ResidualBlock: Layer {
    /// [outputs, 3, 3, inputs]
    public let conv1: Convolution2D
    public let norm1: BatchNorm
    /// [outputs, 3, 3, outputs]
    public let conv2: Convolution2D
    public let norm2: BatchNorm
    /// [outputs, 1, 1, inputs]
    public let shortcut: Convolution2D?
    public let shortcutNorm: BatchNorm?

    /// A block with weights drawn from `random`.
    public init(inputs: Int, outputs: Int, stride: Int, random: RandomStream) {
        func convolution(_ name: String, _ inputs: Int, kernel: Int, stride: Int) -> Convolution2D {
            Convolution2D(
                inputs: inputs, outputs: outputs, kernel: kernel, stride: stride,
                padding: kernel / 2, bias: false, random: random.child(name))
        }
        conv1 = convolution("conv1", inputs, kernel: 3, stride: stride)
        norm1 = BatchNorm(channels: outputs)
        conv2 = convolution("conv2", outputs, kernel: 3, stride: 1)
        norm2 = BatchNorm(channels: outputs)
        let isSame = stride == 1 && inputs == outputs
        shortcut = isSame ? nil : convolution("shortcut", inputs, kernel: 1, stride: stride)
        shortcutNorm = isSame ? nil : BatchNorm(channels: outputs)
    }

    public func callAsFunction(_ x: Value) -> Value {
        var other = x
        if let shortcut, let shortcutNorm { other = shortcutNorm(shortcut(x)) }
        return norm2(conv2(norm1(conv1(x), relu: true)), relu: true, adding: other)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("conv1", conv1)
        visitor.visit("norm1", norm1)
        visitor.visit("conv2", conv2)
        visitor.visit("norm2", norm2)
        if let shortcut { visitor.visit("shortcut", shortcut) }
        if let shortcutNorm { visitor.visit("shortcutNorm", shortcutNorm) }
    }
}

/// The mean of each channel. [N, height, width, C] -> [N, C]
public struct GlobalAveragePool: Layer {
    /// The extents of the images.
    public let height: Int
    public let width: Int

    /// Over images of a size.
    public init(height: Int, width: Int) {
        self.height = height
        self.width = width
    }

    public func callAsFunction(_ x: Value) -> Value {
        x.averagePool2D(Window2D(kernel: Size2D(height, width))).flattened()
    }

    public func visit(_ visitor: inout some ModuleVisitor) {}
}
