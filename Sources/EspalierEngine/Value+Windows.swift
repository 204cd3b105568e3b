package import EspalierGraph
import EspalierTensors

// Convolutions and resampling that are made of other ops.
extension Value {
    /// Images of another size. [N, H, W, C] -> [N, height, width, C]
    package func resampled(_ kind: Op.Resample.Kind, to size: Size2D) -> Value {
        tape.apply(.resample(Op.Resample(kind, to: size)), self)
    }

    /// The means of `height` times `width` parts that may overlap by a pixel. [N, H, W, C] -> [N, height, width, C]
    public func adaptiveAveragePool2D(height: Int, width: Int) -> Value {
        resampled(.average, to: Size2D(height, width))
    }

    /// The nearest pixels of a larger or smaller image. [N, H, W, C] -> [N, height, width, C]
    public func resizedToNearest(height: Int, width: Int) -> Value {
        resampled(.nearest, to: Size2D(height, width))
    }

    /// Lines between the pixels of a larger or smaller image. [N, H, W, C] -> [N, height, width, C]
    public func resizedBilinearly(height: Int, width: Int, alignsCorners: Bool = false) -> Value {
        resampled(alignsCorners ? .linearCorners : .linear, to: Size2D(height, width))
    }

    /// Convolution along one axis. [N, L, in], [out, k, in / groups], [out] -> [N, OL, out]
    public func conv1D(
        weight: Value, bias: Value? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1,
        groups: Int = 1
    ) -> Value {
        require(
            shape.rank == 3 && weight.shape.rank == 3,
            "conv1d: input \(shape) [N, L, C], weight \(weight.shape) [out, k, C / groups]")
        // An image of one row.
        let image = reshaped(to: [shape[0], 1, shape[1], shape[2]])
        let filters = weight.reshaped(
            to: [weight.shape[0], 1, weight.shape[1], weight.shape[2]])
        let y = image.conv2D(
            weight: filters, bias: bias,
            Op.Conv2D(
                stride: Size2D(1, stride), padding: Padding2D(Size2D(0, padding)),
                dilation: Size2D(1, dilation), groups: groups))
        return y.reshaped(to: [y.shape[0], y.shape[2], y.shape[3]])
    }

    /// Transposed convolution: what `conv2D` with these attributes has as the gradient of its input.
    /// [N, H, W, in], [in, kh, kw, out / groups], [out] -> [N, OH, OW, out]
    ///
    /// `outputPadding` adds rows and columns at the bottom and the right, which a stride above 1 leaves open.
    package func convTransposed2D(
        weight: Value, bias: Value? = nil, _ attributes: Op.Conv2D,
        outputPadding: Size2D = Size2D(0)
    ) -> Value {
        let (groups, stride, dilation) = (
            attributes.groups, attributes.stride, attributes.dilation
        )
        let filter = weight.shape
        require(
            shape.rank == 4 && filter.rank == 4 && groups > 0 && filter[0] == shape[3]
                && filter[0] % groups == 0,
            "transposed conv2d: input \(shape) [N, H, W, C] does not fit weight \(filter) "
                + "[C, kh, kw, out / groups] in \(groups) groups")
        // A convolution of the input with zeros between its pixels, by the filters turned round.
        var x = self
        if stride != Size2D(1) {
            x = x.reshaped(to: [shape[0], shape[1], 1, shape[2], 1, shape[3]])
                .padded(
                    .constant(0), before: [0, 0, 0, 0, 0, 0],
                    after: [0, 0, stride.height - 1, 0, stride.width - 1, 0]
                )
                .reshaped(
                    to: [shape[0], shape[1] * stride.height, shape[2] * stride.width, shape[3]])
        }
        let (reachY, reachX) = (
            dilation.height * (filter[1] - 1), dilation.width * (filter[2] - 1)
        )
        let padding = attributes.padding
        // The zeros after the last pixel are no part of it.
        x = x.padded(
            .constant(0), before: [0, reachY - padding.top, reachX - padding.left, 0],
            after: [
                0, reachY - padding.bottom + outputPadding.height - (stride.height - 1),
                reachX - padding.right + outputPadding.width - (stride.width - 1), 0,
            ])
        let turned = weight.flipped(axes: [1, 2])
            .reshaped(to: [groups, filter[0] / groups, filter[1], filter[2], filter[3]])
            .permuted([0, 4, 2, 3, 1])
            .reshaped(to: [groups * filter[3], filter[1], filter[2], filter[0] / groups])
        return x.conv2D(
            weight: turned, bias: bias, Op.Conv2D(dilation: dilation, groups: groups))
    }

    /// What a window sees at each of its positions. [N, H, W, C] -> [N, OH * OW, kh * kw, C]
    package func columns(_ window: Window2D) -> Value {
        require(shape.rank == 4, "columns: \(shape) is not [N, H, W, C]")
        let places = Value.places(window, over: Size2D(shape[1], shape[2]))
        let padding = window.padding
        let padded = padded(
            .constant(0), before: [0, padding.top, padding.left, 0],
            after: [0, padding.bottom, padding.right, 0])
        return padded.reshaped(to: [shape[0], padded.shape[1] * padded.shape[2], shape[3]])
            .taken(axis: 1, places)
    }

    /// The image in which each pixel is the sum of what windows have for it: the transpose of `columns`.
    /// [N, OH * OW, kh * kw, C] -> [N, height, width, C]
    package func foldedColumns(_ window: Window2D, to size: Size2D) -> Value {
        let places = Value.places(window, over: size)
        require(
            shape.rank == 4 && shape[1] == places.shape[0] && shape[2] == places.shape[1],
            "columns of \(shape) for \(places.shape[0]) windows of \(places.shape[1]) pixels")
        let (count, channels) = (shape[0], shape[3])
        let padding = window.padding
        let (height, width) = (
            size.height + padding.top + padding.bottom, size.width + padding.left + padding.right
        )
        // The same places for each image and channel.
        let indices = (0..<count).flatMap { _ in
            places.elements.flatMap { [Int32](repeating: $0, count: channels) }
        }
        let taps = places.count
        return tape.input(Tensor.zeros([count, height * width, channels]))
            .adding(
                reshaped(to: [count, taps, channels]), axis: 1,
                at: IndexTensor(indices, shape: [count, taps, channels])
            )
            .reshaped(to: [count, height, width, channels])
            .padded(
                .constant(0), before: [0, -padding.top, -padding.left, 0],
                after: [0, -padding.bottom, -padding.right, 0])
    }

    /// The pixels of the padded image that each window sees. [OH * OW, kh * kw]
    private static func places(_ window: Window2D, over size: Size2D) -> IndexTensor {
        guard !window.roundsUp, let out = window.positions(over: size) else {
            fatalError("columns: a window of \(window.kernel) over an image of \(size)")
        }
        let width = size.width + window.padding.left + window.padding.right
        let (stride, dilation) = (window.stride, window.dilation)
        var places: [Int32] = []
        for position in 0..<out.height * out.width {
            let (top, left) = (
                position / out.width * stride.height, position % out.width * stride.width
            )
            for tap in 0..<window.kernel.height * window.kernel.width {
                let row = top + tap / window.kernel.width * dilation.height
                let column = left + tap % window.kernel.width * dilation.width
                places.append(Int32(row * width + column))
            }
        }
        return IndexTensor(
            places,
            shape: [out.height * out.width, window.kernel.height * window.kernel.width])
    }
}
