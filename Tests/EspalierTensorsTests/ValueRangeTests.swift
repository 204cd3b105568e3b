import EspalierTensors
import Foundation
import Testing

@Suite struct ValueRangeTests {
    @Test(arguments: [1, 7, 8, 9, 64, 1001]) func rangesOfTensors(_ count: Int) {
        for seed in 0..<5 as Range<UInt64> {
            var values = RandomStream(seed: seed).normal(count)
            let expected = ValueRange(low: values.min() ?? 0, high: values.max() ?? 0)
            #expect(Tensor(values, shape: [count]).range == expected)
            // What is not a number does not count; infinities do.
            let place = Int(seed) * 13 % count
            values[place] = .nan
            let rest = values.filter { !$0.isNaN }
            let range = Tensor(values, shape: [count]).range
            #expect(range.low == rest.min() ?? .infinity && range.high == rest.max() ?? -.infinity)
            values[place] = -.infinity
            #expect(!Tensor(values, shape: [count]).range.isValid)
        }
        #expect(Tensor([], shape: [0]).range == .empty)
    }

    @Test func parametersThatDoNotExist() {
        let scheme = QuantizationScheme.activations(bits: 8)
        let weights = QuantizationScheme.weights(bits: 8)
        #expect(QuantizationParameters(scheme, covering: ValueRange.empty) == nil)
        for (low, high): (Float, Float) in [
            (.nan, 1), (0, .infinity), (2, 1), (-3e38, 3e38), (.nan, .nan),
        ] {
            let range = ValueRange(low: low, high: high)
            #expect(QuantizationParameters(scheme, covering: range) == nil, "\(range)")
        }
        #expect(
            QuantizationParameters(weights, covering: Tensor([1, .nan, 2], shape: [3, 1])) == nil)
        // Too small for a scale: not a fault, and not a scale of 0.
        let tiny = QuantizationParameters(
            weights, covering: Tensor([.leastNonzeroMagnitude, 0, 12.7], shape: [3, 1]))
        #expect(tiny?.scales.map { $0 == 1 } == [true, true, false])
        let flat = QuantizationParameters(
            scheme, covering: ValueRange(low: 0, high: .leastNonzeroMagnitude))
        #expect(flat?.scales == [1])
    }

    @Test func anObserverGoesOnFromARange() {
        let batches = (0..<6).map {
            Tensor(RandomStream(seed: UInt64($0)).normal(50), shape: [50])
        }
        var whole = Observer(.movingAverage(share: 0.25))
        var range = ValueRange.empty
        for batch in batches {
            whole.observe(batch)
            var part = Observer(.movingAverage(share: 0.25), from: range)
            part.observe(batch)
            range = part.range
            #expect(range == whole.range)
        }
        #expect(Observer(.extremes).range == .empty)
    }

    @Test func schemesAsJSON() throws {
        let schemes: [QuantizationScheme] = [
            .weights(bits: 8), .weights(bits: 4, per: .tensor), .activations(bits: 8),
            QuantizationScheme(
                bits: 2, isSigned: true, isSymmetric: false, granularity: .channel(axis: 3)),
        ]
        for scheme in schemes {
            let json = try JSONEncoder().encode(scheme)
            #expect(try JSONDecoder().decode(QuantizationScheme.self, from: json) == scheme)
        }
        let text = String(
            decoding: try JSONEncoder().encode(QuantizationScheme.weights(bits: 8)), as: UTF8.self)
        #expect(text.contains("\"axis\":0") && !text.contains("granularity"))
        for fault in [
            #"{"bits":9,"signed":true,"symmetric":true}"#,
            #"{"bits":-1,"signed":true,"symmetric":true}"#,
            #"{"bits":8,"signed":false,"symmetric":true}"#,
            #"{"bits":8,"signed":true,"symmetric":true,"axis":-1}"#, "{}",
        ] {
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(QuantizationScheme.self, from: Data(fault.utf8))
            }
        }
    }
}
