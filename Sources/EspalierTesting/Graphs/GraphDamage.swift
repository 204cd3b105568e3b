package import EspalierGraph
package import EspalierTensors

extension Graph {
    /// The graph with one to three attributes, grids or edges that nobody would choose: what random bytes rarely reach,
    /// because they must be well-formed to be seen.
    package func damaged(random: RandomStream) -> Graph {
        var graph = self
        var draws = Draws(values: random.integers(64, below: 1 << 16))
        for _ in 0...draws.next(below: 3) { graph.change(&draws) }
        return graph
    }

    private mutating func change(_ draws: inout Draws) {
        guard !nodes.isEmpty else {
            input.quantization = draws.grid()
            return
        }
        let index = draws.next(below: nodes.count)
        switch draws.next(below: 9) {
        case 0: input.quantization = draws.next(below: 3) == 0 ? nil : draws.grid()
        case 1: nodes[index].quantization = draws.next(below: 3) == 0 ? nil : draws.grid()
        case 2: nodes[index].activation = draws.next(below: 2) == 0 ? .relu : .none
        case 3: output = draws.next(below: 4) == 0 ? .input : .node(index)
        case 4:
            let operand = draws.next(below: nodes[index].operands.count)
            nodes[index].operands[operand] = draws.operand(self)
        case 5:
            var example = Array(input.example)
            guard !example.isEmpty else { return }
            example[draws.next(below: example.count)] = draws.extent()
            input.example = Shape(example)
        case 6 where !constants.isEmpty:
            let constant = draws.next(below: constants.count)
            constants[constant].value = constants[constant].value.damaged(&draws)
            constants[constant].mask = nil
        default: nodes[index].op = draws.op(like: nodes[index].op)
        }
    }
}

extension Graph.Constant.Value {
    fileprivate func damaged(_ draws: inout Draws) -> Graph.Constant.Value {
        switch self {
        case .floats(let tensor):
            var elements = tensor.elements
            guard !elements.isEmpty else { return self }
            elements[draws.next(below: elements.count)] = draws.next(below: 2) == 0 ? .nan : 3e38
            return .floats(Tensor(elements, shape: tensor.shape))
        case .sums(var sums):
            let values: [Int32] = [.max, .min, 1 << 30, -(1 << 30) + 1, 0]
            sums[draws.next(below: sums.count)] = values[draws.next(below: values.count)]
            return .sums(sums)
        case .codes(let tensor):
            var scales = tensor.parameters.scales
            scales[draws.next(below: scales.count)] = draws.scale()
            var scheme = tensor.parameters.scheme
            let isAffine = draws.next(below: 4) == 0
            if isAffine { scheme.isSymmetric = false }
            return .codes(
                QuantizedTensor(
                    shape: tensor.shape, codes: tensor.codes,
                    parameters: QuantizationParameters(
                        scheme: scheme, scales: scales,
                        zeroPoints: scales.map { _ in isAffine ? 3 : 0 })))
        }
    }
}

/// Numbers drawn from a list that is used again when it ends.
private struct Draws {
    let values: [Int]
    var place = 0

    mutating func next(below limit: Int) -> Int {
        place += 1
        return values[place % values.count] % max(limit, 1)
    }

    mutating func extent() -> Int {
        [1, 1, 2, 3, 5, 17, 64, 1000, 1 << 14, 1 << 24][next(below: 10)]
    }

    mutating func size() -> Size2D { Size2D(extent(), extent()) }

    mutating func scale() -> Float {
        let exponents = [-149, -127, -126, -64, -20, -8, -4, 0, 1, 64, 127]
        return Float(sign: .plus, exponent: exponents[next(below: 11)], significand: 1)
    }

    mutating func grid() -> QuantizationParameters {
        let bits = [8, 8, 4, 2][next(below: 4)]
        let isSigned = next(below: 4) == 0
        let scheme = QuantizationScheme(
            bits: bits, isSigned: isSigned, isSymmetric: isSigned, granularity: .tensor)
        let zero = isSigned ? 0 : Int32(next(below: scheme.codes.count))
        return QuantizationParameters(scheme: scheme, scales: [scale()], zeroPoints: [zero])
    }

    mutating func operand(_ graph: Graph) -> Graph.Operand {
        switch next(below: 3) {
        case 0: .input
        case 1: .node(next(below: graph.nodes.count))
        default: graph.constants.isEmpty ? .input : .constant(next(below: graph.constants.count))
        }
    }

    mutating func window(kernel: Size2D? = nil) -> Window2D {
        Window2D(
            kernel: kernel ?? size(), stride: size(),
            padding: Padding2D(next(below: 2) == 0 ? Size2D(0) : size()),
            dilation: next(below: 2) == 0 ? Size2D(1) : size(), roundsUp: next(below: 2) == 0)
    }

    mutating func op(like op: Op) -> Op {
        switch op {
        case .conv2D:
            let window = window()
            return .conv2D(
                Op.Conv2D(
                    stride: window.stride, padding: window.padding, dilation: window.dilation,
                    groups: next(below: 4) == 0 ? 2 : 1))
        case .maxPool2D, .averagePool2D:
            return next(below: 2) == 0
                ? .maxPool2D(Op.MaxPool2D(window: window()))
                : .averagePool2D(
                    Op.AveragePool2D(window: window(), countsPadding: next(below: 2) == 0))
        case .softmax:
            return .softmax(Op.Softmax(axis: next(below: 5) - 3, logarithm: next(below: 2) == 0))
        case .reshape:
            return .reshape(Op.Reshape(to: (0...next(below: 4)).map { _ in next(below: 6) - 1 }))
        case .scale: return .scale(Op.Scale(factor: scale()))
        case .fakeQuantize:
            return .fakeQuantize(Op.FakeQuantize(parameters: grid()))
        default:
            return next(below: 2) == 0 ? .relu(Op.ReLU()) : .softmax(Op.Softmax())
        }
    }
}
