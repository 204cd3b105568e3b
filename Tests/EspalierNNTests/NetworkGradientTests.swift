import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// The gradient of a whole network's loss for every parameter, against difference quotients.
@Suite struct NetworkGradientTests {
    @Test(arguments: [
        Architecture.convnet(channels: [3, 4], hidden: 6, dropout: 0),
        .convnet(channels: [3], hidden: 0, dropout: 0.3), .mlp(hidden: [7, 5], dropout: 0.2),
    ])
    func everyParameter(_ architecture: Architecture) throws {
        let network = try Network(
            architecture, input: [6, 6, 2], classes: 3, random: RandomStream(seed: 4))
        let set = ParameterSet(network)
        // A masked parameter has no gradient where it is masked.
        set["head.weight"]?.setMask(
            Mask(shape: set["head.weight"]?.shape ?? []) { $0 % 3 != 0 })
        let images = Fixtures.normal([4, 6, 6, 2], seed: 8)
        let classes = IndexTensor([0, 2, 1, 2])
        let teacher = Fixtures.normal([4, 3], seed: 9)
        func loss() -> (Tape, Value) {
            let tape = Tape(mode: .training, random: RandomStream(seed: 6))
            let logits = network(tape.input(images))
            let task = logits.crossEntropy(classes, smoothing: 0.1).scaled(by: 0.5)
            return (tape, task + logits.distillation(from: teacher, temperature: 2).scaled(by: 0.5))
        }
        let (tape, value) = loss()
        let gradients = tape.gradients(of: value)
        for entry in set.entries {
            let gradient = try #require(gradients[entry.parameter], "\(entry.name)")
            let largest = max(gradient.elements.map(\.magnitude).max() ?? 0, 0.02)
            var errors: [Float] = []
            for index in 0..<entry.parameter.value.count {
                guard entry.parameter.mask?.isLive(index) ?? true else {
                    #expect(gradient.elements[index].bitPattern == 0, "\(entry.name)[\(index)]")
                    continue
                }
                let before = entry.parameter.value
                func moved(by delta: Float) -> Float {
                    entry.parameter.update {
                        var elements = $0.elements
                        elements[index] += delta
                        $0 = Tensor(elements, shape: $0.shape)
                    }
                    defer { entry.parameter.assign(before) }
                    return loss().1.tensor.scalar
                }
                let quotient = (moved(by: 4e-3) - moved(by: -4e-3)) / 8e-3
                errors.append(abs(quotient - gradient.elements[index]) / largest)
            }
            errors.sort()
            // A step may cross the kink of a ReLU or exchange two maxima: few entries may differ.
            let typical = errors[errors.count * 9 / 10]
            #expect(typical < 0.02, "\(entry.name): \(typical)")
        }
    }
}
