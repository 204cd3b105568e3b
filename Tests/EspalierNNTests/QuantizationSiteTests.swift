import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct QuantizationSiteTests {
    private func site(share: Float = 0.25) -> QuantizationSite {
        QuantizationSite(.activations(bits: 8), share: share)
    }

    private func run(_ site: QuantizationSite, _ x: Tensor, _ tape: Tape) -> Tensor {
        site(tape.input(x)).tensor
    }

    @Test func theForwardIsPure() {
        let site = site()
        let (first, second) = (Fixtures.normal([40], seed: 1), Fixtures.normal([40], seed: 2))
        for x in [first, second] {
            let before = site.range.value
            let (a, b) = (Tape(mode: .training), Tape(mode: .training))
            #expect(run(site, x, a).isIdentical(to: run(site, x, b)))
            #expect(site.range.value.isIdentical(to: before))
            #expect(a.observedRanges.map(\.range) == [x.range])
            QuantizationSite.fold(a.observedRanges)
            #expect(!site.range.value.isIdentical(to: before))
        }
    }

    @Test func theRangeIsTheObserversMovingAverage() {
        let site = site()
        var observer = Observer(.movingAverage(share: 0.25))
        for seed in 0..<5 as Range<UInt64> {
            let x = Fixtures.normal([30], seed: seed)
            let tape = Tape(mode: .training)
            let y = run(site, x, tape)
            // By the range from before this batch; the first goes by its own.
            let range = seed == 0 ? x.range : observer.range
            let parameters = QuantizationScheme.activations(bits: 8).parameters(
                low: range.low, high: range.high)
            for (value, seen) in zip(x.elements, y.elements) {
                let code = Rounding.code(
                    value, scale: parameters.scale, zeroPoint: parameters.zeroPoint, codes: 0...255)
                #expect(seen == Float(code - parameters.zeroPoint) * parameters.scale)
            }
            QuantizationSite.fold(tape.observedRanges)
            observer.observe(x)
            #expect(site.movingRange == observer.range)
        }
        #expect(site.parameters?.scales.count == 1)
    }

    @Test func whoObserves() {
        let x = Fixtures.normal([9], seed: 1)
        func seen(_ tape: Tape) -> Int {
            _ = run(site(), x, tape)
            return tape.observedRanges.count
        }
        #expect(seen(Tape(mode: .training)) == 1)
        #expect(seen(Tape(mode: .evaluation)) == 0)
        #expect(seen(Tape(mode: .evaluation, isRecording: false, observesRanges: true)) == 1)
        #expect(seen(Tape(mode: .training, observesRanges: false)) == 0)
    }

    @Test func theGradientPassesWithinTheRange() {
        let site = site()
        site.range.value = Tensor([0, 2.55], shape: [2])
        let tape = Tape(mode: .training)
        let x = tape.variable(Tensor([-1, 0, 1.234, 2.55, 3], shape: [5]))
        let y = site(x)
        #expect(y.tensor.elements[0] == 0 && abs(y.tensor.elements[4] - 2.55) < 1e-6)
        let upstream = Tensor([1, 2, 3, 4, 5], shape: [5])
        let gradient = tape.gradients(of: y, upstream: upstream, for: [x]).values[0]
        #expect(gradient.elements == [0, 2, 3, 4, 0])
    }

    @Test func frozenRangesAndInfinities() {
        let site = site()
        site.range.value = Tensor([0, 1], shape: [2])
        let tape = Tape(mode: .training)
        _ = run(site, Fixtures.normal([9], seed: 1), tape)
        QuantizationSite.fold(tape.observedRanges, keeping: [ObjectIdentifier(site.range)])
        #expect(site.range.value.elements == [0, 1])
        // What is not finite stays as it is, and no range follows it.
        let wild = Tape(mode: .training)
        #expect(run(site, Tensor([1, .infinity], shape: [2]), wild).elements == [1, .infinity])
        #expect(wild.observedRanges.isEmpty)
    }
}
