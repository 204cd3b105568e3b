package import EspalierEngine
import EspalierGraph
package import EspalierKernels
package import EspalierNN
package import EspalierTensors

/// A convnet of integers as training leaves it, without the trainer: grids on weights and activations.
package struct QuantizedConvnet: Layer {
    let conv1: Convolution2D
    let conv2: Convolution2D
    let hidden: Linear
    let head: Linear

    package init(seed: UInt64, masks: Bool = false) {
        let random = RandomStream(seed: seed)
        conv1 = Convolution2D(
            inputs: 1, outputs: 8, kernel: 3, padding: 1, random: random.child("conv1"))
        conv2 = Convolution2D(
            inputs: 8, outputs: 20, kernel: 3, stride: masks ? 1 : 2, padding: 1,
            random: random.child("conv2"))
        hidden = Linear(inputs: masks ? 320 : 80, outputs: 68, random: random.child("hidden"))
        head = Linear(inputs: 68, outputs: 5, random: random.child("head"))
        for layer in [conv1.bias, conv2.bias, hidden.bias, head.bias] {
            guard let bias = layer else { continue }
            bias.assign(
                Tensor(
                    random.child("bias").normal(bias.shape.elementCount).map { 0.1 * $0 },
                    shape: bias.shape))
        }
        guard masks else { return }
        for weight in [conv2.weight, hidden.weight] {
            let lots = random.child("mask").integers(weight.shape.elementCount / 4, below: 10)
            weight.setMask(Mask(shape: weight.shape) { lots[$0 / 4] == 0 })
        }
    }

    package func callAsFunction(_ x: Value) -> Value {
        var x = site(x, 0, 1)
        x = site(convolution(conv1, x).relu(), 0, 4)
        x = x.maxPool2D(Window2D(kernel: Size2D(2), stride: Size2D(2)))
        x = site(convolution(conv2, x).relu(), 0, 6)
        x = x.flattened()
        x = site(linear(hidden, x).relu(), 0, 8)
        return linear(head, x)
    }

    private func site(_ x: Value, _ low: Float, _ high: Float) -> Value {
        x.fakeQuantized(
            QuantizationParameters(scheme: .activations(bits: 8), low: [low], high: [high]))
    }

    private func weight(_ parameter: Parameter, _ tape: Tape) -> Value {
        let value = parameter.value
        let size = value.count / value.shape[0]
        let elements = value.elements
        let largest = (0..<value.shape[0]).map { output in
            elements[output * size..<(output + 1) * size].map(\.magnitude).max() ?? 0
        }
        return tape.parameter(parameter).fakeQuantized(
            QuantizationParameters(
                scheme: .weights(bits: 8), low: largest.map { -$0 }, high: largest))
    }

    private func convolution(_ layer: Convolution2D, _ x: Value) -> Value {
        x.conv2D(
            weight: weight(layer.weight, x.tape), bias: layer.bias.map { x.tape.parameter($0) },
            Op.Conv2D(stride: Size2D(layer.stride), padding: Padding2D(Size2D(layer.padding))))
    }

    private func linear(_ layer: Linear, _ x: Value) -> Value {
        x.linear(
            weight: weight(layer.weight, x.tape), bias: layer.bias.map { x.tape.parameter($0) })
    }

    package func visit(_ visitor: inout some ModuleVisitor) {
        visitor.visit("conv1", conv1)
        visitor.visit("conv2", conv2)
        visitor.visit("hidden", hidden)
        visitor.visit("head", head)
    }
}

/// Examples in 0..<1, the same for the same arguments.
package func examples(_ count: Int, _ example: Shape, seed: UInt64 = 1) -> Tensor {
    let shape = Shape([count] + example)
    return Tensor(RandomStream(seed: seed).uniform(shape.elementCount), shape: shape)
}

/// The result of a layer on a tape in evaluation mode.
package func evaluated(_ layer: some Layer, _ x: Tensor) -> Tensor {
    let tape = Tape(mode: .evaluation, isRecording: false)
    return layer(tape.input(x)).tensor
}

extension CostTable {
    /// One for which dense kernels cost nothing.
    package static var denseIsFree: CostTable {
        var table = CostTable.shipped(.current)
        table.dense.steps = table.dense.steps.map { _ in 0 }
        (table.dense.result, table.dense.tap) = (0, 0)
        return table
    }
}
