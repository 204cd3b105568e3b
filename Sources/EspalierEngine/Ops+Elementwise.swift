import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Add: ElementWise {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        Kernels.broadcastAdd(inputs[0], inputs[1])
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        zip(saved.inputShapes, saved.needed).map { shape, needed in
            needed ? Kernels.sum(upstream, to: shape) : nil
        }
    }
}

extension Op.Scale: ElementWise {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        Kernels.scale(inputs[0], by: factor)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.scale(upstream, by: factor)]
    }
}

extension Op.ApplyMask: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor { inputs[0] }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.mask(upstream, with: mask.words)]
    }
}

extension Op.FakeQuantize: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        context.keep(inputs[0])
        return whole(inputs[0]) { Kernels.fakeQuantize($0, parameters) }
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let x = Kernels.converted(saved.tensors[0], to: .rowMajor)
        return [
            whole(upstream) { Kernels.fakeQuantizeGradient(x, upstream: $0, parameters) }
        ]
    }

    // A weight held as its live entries stays so: the code of zero is zero. Scales belong to channels, so that the
    // kernels see the whole.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        if case .live = operands[0].layout { return [operands[0].layout] }
        return [.rowMajor]
    }

    private func whole(_ x: Tensor, _ body: (Tensor) -> Tensor) -> Tensor {
        Kernels.converted(body(Kernels.converted(x, to: .rowMajor)), to: x.layout)
    }
}

extension Op.ReLU: ElementWise {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let y = Kernels.relu(inputs[0])
        context.keep(y)
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.reluGradient(output: saved.tensors[0], upstream: upstream)]
    }
}

extension Op.Dropout: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let scale = 1 / (1 - probability)
        let factors =
            switch kept {
            case .drawn(let stream):
                stream.keepMask(inputs[0].shape, dropped: probability, value: scale)
            case .given(let mask): Kernels.scale(mask, by: scale)
            }
        context.keep(factors)
        return Kernels.multiply(inputs[0], factors)
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [Kernels.multiply(upstream, saved.tensors[0])]
    }
}

extension Op.Reshape: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let size = inputs[0].shape.elementCount
        let known = extents.filter { $0 >= 0 }.reduce(1, *)
        return inputs[0].reshaped(to: Shape(extents.map { $0 == -1 ? size / known : $0 }))
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        [upstream.reshaped(to: saved.inputShapes[0])]
    }

    // Blocks are of columns of the last axis.
    func layouts(reading operands: [Tensor]) -> [Layout] {
        [extents.last == operands[0].shape.last ? operands[0].layout : .rowMajor]
    }
}

extension Op.Softmax: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let y = alongLastAxis(inputs[0]) {
            logarithm ? Kernels.logSoftmax($0) : Kernels.softmax($0)
        }
        context.keep(y)
        return y
    }

    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let y = moved(saved.tensors[0])
        return [
            alongLastAxis(upstream) {
                logarithm
                    ? Kernels.logSoftmaxGradient(output: y, upstream: $0)
                    : Kernels.softmaxGradient(output: y, upstream: $0)
            }
        ]
    }

    // The kernels work along the innermost axis; another axis changes places with it.
    private func alongLastAxis(_ x: Tensor, _ body: (Tensor) -> Tensor) -> Tensor {
        moved(body(moved(x)))
    }

    private func moved(_ x: Tensor) -> Tensor {
        let axis = x.shape.normalized(axis: axis)
        guard axis != x.shape.rank - 1 else { return x }
        var order = Array(0..<x.shape.rank)
        order.swapAt(axis, order.count - 1)
        return x.permuted(order)
    }
}
