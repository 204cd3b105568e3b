import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

/// Parameters whose effective value is on the grid of their codes.
@Suite struct QuantizedParameterTests {
    private func weight(_ shape: Shape = [5, 24], seed: UInt64 = 1) -> Parameter {
        let parameter = Parameter(Fixtures.normal(shape, seed: seed))
        parameter.quantization = .weights(bits: 8)
        return parameter
    }

    private func effective(_ parameter: Parameter) -> Tensor {
        Tape(mode: .evaluation, isRecording: false).parameter(parameter).tensor
    }

    @Test func valuesAreOnTheGrid() throws {
        let parameter = weight()
        // Masks come first: the largest value of row 2 is masked and must not stretch its scale.
        let largest = try #require((48..<72).max { magnitude($0) < magnitude($1) })
        func magnitude(_ index: Int) -> Float { parameter.value.elements[index].magnitude }
        parameter.setMask(Mask(shape: [5, 24]) { $0 % 3 != 0 && $0 != largest && $0 / 24 != 4 })
        let (raw, seen) = (parameter.value.elements, effective(parameter).elements)
        for row in 0..<5 {
            let range = row * 24..<(row + 1) * 24
            let scale = (raw[range].map(\.magnitude).max() ?? 0) / 127
            for index in range {
                if parameter.mask?.isLive(index) ?? true {
                    let code = (raw[index] / scale).rounded(.toNearestOrEven)
                    #expect(seen[index] == code * scale && code.magnitude <= 127)
                } else {
                    #expect(seen[index].bitPattern == 0)
                }
            }
        }
        // The raw value stays as it was, and its scale follows it.
        #expect(parameter.value.elements == raw)
        parameter.update { $0 = Tensor($0.elements.map { $0 * 2 }, shape: $0.shape) }
        #expect(effective(parameter).elements == seen.map { $0 * 2 })
        parameter.quantization = nil
        #expect(effective(parameter).isIdentical(to: parameter.value))
    }

    @Test func oneScaleForAll() {
        let parameter = weight()
        parameter.quantization = .weights(bits: 8, per: .tensor)
        let scale = (parameter.value.elements.map(\.magnitude).max() ?? 0) / 127
        for (raw, seen) in zip(parameter.value.elements, effective(parameter).elements) {
            #expect(seen == (raw / scale).rounded(.toNearestOrEven) * scale)
        }
    }

    @Test func theGradientPassesStraightThrough() throws {
        let parameter = weight([3, 4])
        parameter.setMask(Mask(shape: [3, 4]) { $0 != 5 })
        let upstream = Fixtures.normal([3, 4], seed: 3)
        let tape = Tape(mode: .training)
        let value = tape.parameter(parameter)
        let gradient = try #require(
            tape.gradients(of: value, upstream: upstream, for: []).parameters[parameter])
        for index in 0..<12 {
            #expect(gradient.elements[index] == (index == 5 ? 0 : upstream.elements[index]))
        }
        #expect(gradient.elements[5].bitPattern == 0)
    }

    @Test func whatIsNotFiniteShows() {
        for value: Float in [.nan, .infinity] {
            let parameter = weight([2, 2])
            parameter.assign(Tensor([1, value, 2, 3], shape: [2, 2]))
            let seen = effective(parameter).elements
            #expect(!seen[1].isFinite && seen[0] == 1)
        }
    }

    @Test("T3.3 for a portion of 1: the gradient is the float gradient at the quantized weights")
    func T3_3_gradientAtTheQuantizedPoint() throws {
        let architecture = Architecture.mlp(hidden: [7], dropout: 0)
        func network() throws -> Network {
            try Network(architecture, input: [6], classes: 3, random: RandomStream(seed: 4))
        }
        let (quantized, plain) = (try network(), try network())
        let (set, others) = (ParameterSet(quantized), ParameterSet(plain))
        for entry in set.entries where entry.parameter.shape.rank == 2 {
            // Four bits: the point is far enough from the weights to tell the two gradients apart.
            entry.parameter.quantization = .weights(bits: 4)
            others[entry.name]?.assign(effective(entry.parameter))
        }
        let images = Fixtures.normal([5, 6], seed: 8)
        func loss(_ network: Network) -> (Tape, Value) {
            let tape = Tape(mode: .training)
            return (tape, network(tape.input(images)).crossEntropy(IndexTensor([0, 2, 1, 2, 0])))
        }
        let (tape, value) = loss(quantized)
        let gradients = tape.gradients(of: value)
        let (rawTape, rawValue) = loss(try network())
        #expect(rawValue.tensor.scalar != value.tensor.scalar)
        _ = rawTape
        for entry in set.entries {
            let gradient = try #require(gradients[entry.parameter]).elements
            let parameter = try #require(others[entry.name])
            let largest = max(gradient.map(\.magnitude).max() ?? 0, 0.02)
            var errors: [Float] = []
            for index in gradient.indices {
                let before = parameter.value
                func moved(by delta: Float) -> Float {
                    parameter.update {
                        var elements = $0.elements
                        elements[index] += delta
                        $0 = Tensor(elements, shape: $0.shape)
                    }
                    defer { parameter.assign(before) }
                    return loss(plain).1.tensor.scalar
                }
                let quotient = (moved(by: 4e-3) - moved(by: -4e-3)) / 8e-3
                errors.append(abs(quotient - gradient[index]) / largest)
            }
            errors.sort()
            // A step may cross the kink of a ReLU: few entries may differ.
            #expect(errors[errors.count * 9 / 10] < 0.02, "\(entry.name)")
        }
    }
}
