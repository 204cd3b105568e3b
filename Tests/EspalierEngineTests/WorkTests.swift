import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct WorkTests {
    @Test func productsAreCountedForwardAndBackward() {
        let weight = Parameter(.zeros([5, 4]))
        let tape = Tape(mode: .training)
        let x = tape.input(.zeros([2, 3, 4]))
        let y = x.linear(weight: tape.parameter(weight), bias: nil)
        // The forward, and the gradient for the weight; none for the input.
        #expect(tape.work == work(2 * (2 * 6 * 4 * 5)))
        _ = y.matMul(y, otherTransposed: true)
        #expect(tape.work == work(2 * (2 * 6 * 4 * 5) + 3 * (2 * 2 * 3 * 3 * 5)))
        let image = Tape(mode: .training)
        let kernel = image.variable(.zeros([6, 3, 2, 2]))
        _ = image.variable(.zeros([2, 7, 8, 4])).conv2D(
            weight: kernel, bias: nil, Op.Conv2D(stride: Size2D(2), groups: 2)
        ).relu().averagePool2D(Window2D(kernel: Size2D(1)))
        #expect(image.work == work(3 * (2 * 2 * 3 * 4 * 6 * 3 * 2 * 2)))
    }

    /// A convolution is as much work with what follows it in the same pass as without.
    @Test func aConvolutionIsCountedBeforeItsPooling() {
        for activation in [Op.Conv2D.Activation.none, .relu, .pooledReLU] {
            let tape = Tape(mode: .training)
            _ = tape.variable(.zeros([2, 7, 9, 4])).conv2D(
                weight: tape.variable(.zeros([6, 3, 2, 4])), bias: nil,
                Op.Conv2D(padding: Padding2D(Size2D(1))), activation: activation)
            #expect(tape.work == work(3 * (2 * 2 * 7 * 10 * 6 * 3 * 2 * 4)), "\(activation)")
        }
    }

    @Test func maskedWeightsCountWhatLives() {
        let weight = Parameter(Fixtures.normal([5, 4], seed: 1))
        weight.setMask(Mask(shape: [5, 4]) { $0 % 4 == 1 })
        weight.quantization = .weights(bits: 8)
        let tape = Tape(mode: .training)
        _ = tape.variable(.zeros([8, 4])).linear(weight: tape.parameter(weight), bias: nil)
        #expect(tape.work.dense == 3 * (2 * 8 * 4 * 5))
        #expect(tape.work.live == 3 * (2 * 8 * 5))
        let other = Tape(mode: .evaluation, isRecording: false)
        _ = other.input(.zeros([8, 4])).linear(weight: other.parameter(weight), bias: nil)
        #expect(other.work == work(0))
    }

    private func work(_ flops: Int) -> Tape.Work { Tape.Work(dense: flops, live: flops) }
}
