import EspalierEngine
import EspalierGraph
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct TapeTests {
    @Test func aParameterMetTwiceGetsTheSum() {
        let weight = Parameter(Fixtures.normal([3, 3], seed: 1))
        let x = Fixtures.normal([5, 3], seed: 2)
        func gradient(_ body: (Tape, Value) -> Value) -> Tensor? {
            let tape = Tape(mode: .training)
            let y = body(tape, tape.input(x))
            return tape.gradients(
                of: y, upstream: Tensor(repeating: 1, shape: y.shape), for: []
            ).parameters[weight]
        }
        let once = gradient { $1.linear(weight: $0.parameter(weight), bias: nil) }
        let scaled = gradient { $1.scaled(by: 2).linear(weight: $0.parameter(weight), bias: nil) }
        let both = gradient {
            $1.linear(weight: $0.parameter(weight), bias: nil)
                + $1.scaled(by: 2).linear(weight: $0.parameter(weight), bias: nil)
        }
        let (a, b, sum) = (once?.elements ?? [], scaled?.elements ?? [], both?.elements ?? [])
        #expect(sum.count == 9)
        for index in sum.indices { #expect(abs(sum[index] - a[index] - b[index]) < 1e-5) }
    }

    @Test func frozenParametersGetNoGradient() {
        let (weight, bias) = (Parameter(Fixtures.normal([2, 3], seed: 1)), Parameter(.zeros([2])))
        weight.isTrainable = false
        let tape = Tape(mode: .training)
        let y = tape.input(.zeros([4, 3])).linear(
            weight: tape.parameter(weight), bias: tape.parameter(bias))
        let gradients = tape.gradients(of: y.crossEntropy(IndexTensor([0, 1, 0, 1])))
        #expect(gradients[weight] == nil)
        #expect(gradients[bias] != nil)
    }

    @Test func parametersThatTheLossIgnoresGetNoGradient() {
        let (used, unused) = (Parameter(.zeros([2])), Parameter(.zeros([2])))
        let tape = Tape(mode: .training)
        _ = tape.parameter(unused).relu()
        let loss = tape.parameter(used).crossEntropy(IndexTensor([0], shape: []))
        let gradients = tape.gradients(of: loss)
        #expect(gradients[used]?.elements == [-0.5, 0.5])
        #expect(gradients[unused] == nil)
    }

    /// A tape and what it holds must go when the last value goes, also where nobody asked for
    /// gradients.
    @Test(arguments: [true, false]) func tapesAreFreed(_ isRecording: Bool) {
        let weight = Parameter(Fixtures.normal([2, 3], seed: 1))
        weak var freed: Tape?
        do {
            let tape = Tape(mode: .evaluation, isRecording: isRecording)
            freed = tape
            let y = tape.input(.zeros([4, 3])).linear(weight: tape.parameter(weight), bias: nil)
            #expect(y.shape == [4, 2])
        }
        #expect(freed == nil)
    }

    @Test func gradientsLeaveNothingBehind() {
        let weight = Parameter(Fixtures.normal([2, 3], seed: 1))
        let tape = Tape(mode: .training)
        let loss = tape.input(.zeros([1, 3])).linear(weight: tape.parameter(weight), bias: nil)
            .crossEntropy(IndexTensor([0]))
        _ = tape.gradients(of: loss)
        // The tape is still here, and yet the parameter has its storage to itself.
        func address() -> UInt { unsafe weight.value.reading { UInt(bitPattern: $0) } }
        let before = address()
        weight.update { unsafe $0.writing { unsafe $0[0] = 3 } }
        #expect(address() == before)
        withExtendedLifetime(tape) {}
    }

    @Test func batchStatisticsAreReported() {
        let x = Fixtures.normal([50, 4], seed: 3)
        let norm = BatchNorm(channels: 4)
        let tape = Tape(mode: .training)
        _ = norm(tape.input(x))
        #expect(tape.batchStatistics.count == 1)
        // Outside the macro, in which `===` of these types makes Swift 6.3.1 crash.
        let isOwner = tape.batchStatistics[0].owner === norm.running
        #expect(isOwner)
        let column = stride(from: 2, to: 200, by: 4).map { Double(x.elements[$0]) }
        let mean = column.reduce(0, +) / 50
        let variance = column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 49
        #expect(abs(Double(tape.batchStatistics[0].mean.elements[2]) - mean) < 1e-6)
        #expect(abs(Double(tape.batchStatistics[0].variance.elements[2]) - variance) < 1e-6)
        let evaluation = Tape(mode: .evaluation)
        _ = norm(evaluation.input(x))
        #expect(evaluation.batchStatistics.isEmpty)
    }

    @Test func dropoutIsForTraining() {
        let x = Tensor(repeating: 1, shape: [1_000])
        #expect(Tape(mode: .evaluation).input(x).dropout(0.5).tensor.isIdentical(to: x))
        let tape = Tape(mode: .training, random: RandomStream(seed: 1))
        let (a, b) = (tape.input(x).dropout(0.5).tensor, tape.input(x).dropout(0.5).tensor)
        #expect(!a.isIdentical(to: b))
        let again = Tape(mode: .training, random: RandomStream(seed: 1)).input(x).dropout(0.5)
            .tensor
        #expect(again.isIdentical(to: a))
        #expect(Set(a.elements) == [0, 2])
    }

    @Test func aConsumedTapeTraps() async {
        await #expect(processExitsWith: .failure) {
            let tape = Tape(mode: .training)
            let x = tape.variable(Tensor(2))
            _ = tape.gradients(of: x.relu())
            _ = x.relu()
        }
        await #expect(processExitsWith: .failure) {
            let tape = Tape(mode: .training)
            let y = tape.variable(Tensor(2)).relu()
            _ = tape.gradients(of: y)
            _ = tape.gradients(of: y)
        }
        await #expect(processExitsWith: .failure) {
            let tape = Tape(mode: .training)
            _ = tape.gradients(of: tape.variable(.zeros([2])).relu())
        }
        await #expect(processExitsWith: .failure) {
            _ = Tape(mode: .training).input(Tensor(1)) + Tape(mode: .training).input(Tensor(1))
        }
    }

    @Test func shapesThatDoNotFitTrapWithBoth() async {
        let messages: [(ExitTest.Result?, [String])] = [
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    let tape = Tape(mode: .training)
                    _ = tape.input(.zeros([2, 3])) + tape.input(.zeros([4, 5]))
                }, ["[2, 3]", "[4, 5]"]
            ),
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    let tape = Tape(mode: .training)
                    _ = tape.input(.zeros([2, 3])).linear(
                        weight: tape.input(.zeros([7, 4])), bias: nil)
                }, ["[2, 3]", "[7, 4]"]
            ),
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    let tape = Tape(mode: .training)
                    _ = tape.input(.zeros([1, 5, 5, 3])).conv2D(
                        weight: tape.input(.zeros([8, 3, 3, 2])), bias: nil, Op.Conv2D())
                }, ["[1, 5, 5, 3]", "[8, 3, 3, 2]"]
            ),
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    _ = Tape(mode: .training).input(.zeros([2, 3])).reshaped(to: [4, 2])
                }, ["[2, 3]", "[4, 2]"]
            ),
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    _ = Tape(mode: .training).input(.zeros([2, 3])).crossEntropy(
                        IndexTensor([0, 1, 2]))
                }, ["[2, 3]", "[3]"]
            ),
            (
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    _ = Tape(mode: .training).input(.zeros([2, 3])).distillation(
                        from: .zeros([2, 4]), temperature: 1)
                }, ["[2, 3]", "[2, 4]"]
            ),
        ]
        for (result, shapes) in messages {
            let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            for shape in shapes { #expect(message.contains(shape), "\(message)") }
        }
    }
}
