package import EspalierTensors

/// Height and width.
package struct Size2D: Sendable, Hashable {
    package var height: Int
    package var width: Int

    package init(_ height: Int, _ width: Int) {
        self.height = height
        self.width = width
    }

    package init(_ both: Int) { self.init(both, both) }
}

/// Rows and columns of zeros around an image.
package struct Padding2D: Sendable, Hashable {
    package var top: Int
    package var left: Int
    package var bottom: Int
    package var right: Int

    package init(top: Int, left: Int, bottom: Int, right: Int) {
        self.top = top
        self.left = left
        self.bottom = bottom
        self.right = right
    }

    package init(_ size: Size2D) {
        self.init(top: size.height, left: size.width, bottom: size.height, right: size.width)
    }

    /// What keeps the size at stride 1; an even kernel's extra zero goes to the bottom and the right.
    package static func same(kernel: Size2D, dilation: Size2D = Size2D(1)) -> Padding2D {
        let (y, x) = (dilation.height * (kernel.height - 1), dilation.width * (kernel.width - 1))
        return Padding2D(top: y / 2, left: x / 2, bottom: y - y / 2, right: x - x / 2)
    }
}

/// A kernel sliding over an image.
package struct Window2D: Sendable, Hashable {
    package var kernel: Size2D
    package var stride: Size2D
    package var padding: Padding2D
    package var dilation: Size2D
    /// Whether a last window that hangs over the edge counts; it must begin inside the image or left padding.
    package var roundsUp: Bool

    package init(
        kernel: Size2D, stride: Size2D = Size2D(1), padding: Padding2D = Padding2D(Size2D(0)),
        dilation: Size2D = Size2D(1), roundsUp: Bool = false
    ) {
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.roundsUp = roundsUp
    }

    /// The number of positions over an image, or nil where there is none.
    package func positions(over image: Size2D) -> Size2D? {
        guard
            let height = count(
                image.height, kernel.height, stride.height, padding.top, padding.bottom,
                dilation.height),
            let width = count(
                image.width, kernel.width, stride.width, padding.left, padding.right, dilation.width
            )
        else { return nil }
        return Size2D(height, width)
    }

    private func count(
        _ extent: Int, _ kernel: Int, _ stride: Int, _ before: Int, _ after: Int, _ dilation: Int
    ) -> Int? {
        guard kernel > 0, stride > 0, dilation > 0, before >= 0, after >= 0 else { return nil }
        let free = extent + before + after - dilation * (kernel - 1) - 1
        guard free >= 0 else { return nil }
        guard roundsUp else { return free / stride + 1 }
        let count = (free + stride - 1) / stride + 1
        return (count - 1) * stride >= extent + before ? count - 1 : count
    }
}

extension Op {
    /// Two-dimensional convolution. Operands: x [N, H, W, in], weight [out, kh, kw, in / groups] and
    /// perhaps bias [out]; result [N, OH, OW, out].
    package struct Conv2D: Operation {
        package let stride: Size2D
        package let padding: Padding2D
        package let dilation: Size2D
        package let groups: Int
        /// What follows in the same pass. Only while training: a graph has ops of its own for it.
        package let activation: Activation

        /// What a convolution's sums become before they are written.
        package enum Activation: Sendable {
            case none
            /// max(x, 0)
            case relu
            /// The largest of each 2x2 pixels and 0; a last odd row or column is left out.
            case pooledReLU
        }

        package init(
            stride: Size2D = Size2D(1), padding: Padding2D = Padding2D(Size2D(0)),
            dilation: Size2D = Size2D(1), groups: Int = 1, activation: Activation = .none
        ) {
            self.activation = activation
            self.stride = stride
            self.padding = padding
            self.dilation = dilation
            self.groups = groups
        }

        /// The window of a weight [out, kh, kw, in / groups].
        package func window(weight: Shape) -> Window2D {
            Window2D(
                kernel: Size2D(weight[1], weight[2]), stride: stride, padding: padding,
                dilation: dilation)
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let (x, weight) = (inputs[0], inputs[1])
            guard x.rank == 4, weight.rank == 4, groups > 0, x[3] == weight[3] * groups,
                weight[0] % groups == 0
            else {
                throw ShapeError(
                    "conv2d: input \(x) [N, H, W, C] does not fit weight \(weight) "
                        + "[out, kh, kw, C / groups] in \(groups) groups")
            }
            if inputs.count > 2, inputs[2] != [weight[0]] {
                throw ShapeError("conv2d: bias \(inputs[2]) does not fit weight \(weight)")
            }
            guard let out = window(weight: weight).positions(over: Size2D(x[1], x[2])) else {
                throw ShapeError("conv2d: a kernel of \(weight) is larger than the image \(x)")
            }
            if activation == .pooledReLU {
                guard out.height >= 2, out.width >= 2 else {
                    throw ShapeError(
                        "max pool: a window of 2x2 is larger than the image "
                            + "[\(x[0]), \(out.height), \(out.width), \(weight[0])]")
                }
                return [x[0], out.height / 2, out.width / 2, weight[0]]
            }
            return [x[0], out.height, out.width, weight[0]]
        }
    }

    /// The largest of each window. x [N, H, W, C]
    package struct MaxPool2D: Operation {
        package let window: Window2D

        package init(window: Window2D) { self.window = window }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            try pooledShape("max pool", inputs[0], window)
        }
    }

    /// The mean of each window. x [N, H, W, C]
    package struct AveragePool2D: Operation {
        package let window: Window2D
        /// Whether padding counts in the divisor.
        package let countsPadding: Bool

        package init(window: Window2D, countsPadding: Bool = true) {
            self.window = window
            self.countsPadding = countsPadding
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard window.dilation == Size2D(1) else {
                throw ShapeError("average pool: its window has no dilation")
            }
            return try pooledShape("average pool", inputs[0], window)
        }
    }
}

private func pooledShape(
    _ name: String, _ x: Shape, _ window: Window2D
) throws(ShapeError) -> Shape {
    guard x.rank == 4 else { throw ShapeError("\(name): input \(x) is not [N, H, W, C]") }
    guard let out = window.positions(over: Size2D(x[1], x[2])) else {
        throw ShapeError(
            "\(name): a window of \(window.kernel.height)x\(window.kernel.width) is larger than "
                + "the image \(x)")
    }
    return [x[0], out.height, out.width, x[3]]
}
