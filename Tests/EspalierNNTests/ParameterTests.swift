import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct ParameterTests {
    private let mask = Mask(shape: [5, 7]) { $0 % 3 == 0 }

    private func expectMasked(_ tensor: Tensor) {
        for (index, value) in tensor.elements.enumerated() where !mask.isLive(index) {
            #expect(value.bitPattern == 0, "entry \(index): \(value)")
        }
    }

    @Test func maskedEntriesAreExactlyPlusZero() {
        let parameter = Parameter(Tensor(repeating: -1, shape: [5, 7]))
        parameter.setMask(mask)
        expectMasked(parameter.value)
        #expect(parameter.value.elements.count { $0 == -1 } == mask.liveCount)
        parameter.assign(Tensor(repeating: .nan, shape: [5, 7]))
        expectMasked(parameter.value)
        #expect(parameter.value.elements.count { $0.isNaN } == mask.liveCount)
        parameter.update { $0 = Tensor(repeating: -0.0, shape: [5, 7]) }
        expectMasked(parameter.value)
        // Live entries keep their sign.
        #expect(parameter.value.elements[0].sign == .minus)
        parameter.setMask(nil)
        parameter.assign(Tensor(repeating: 2, shape: [5, 7]))
        #expect(parameter.value.elements.allSatisfy { $0 == 2 })
    }

    @Test func updatesAreInPlaceWhereNobodyElseHoldsTheValue() {
        let parameter = Parameter(Fixtures.normal([5, 7], seed: 1))
        parameter.setMask(mask)
        func address() -> UInt { unsafe parameter.value.reading { UInt(bitPattern: $0) } }
        let before = address()
        parameter.update { unsafe $0.writing { unsafe $0[3] = 4 } }
        #expect(address() == before)
        let held = parameter.value
        parameter.update { unsafe $0.writing { unsafe $0[3] = 5 } }
        #expect(address() != before)
        #expect(held.elements[3] == 4)
        #expect(parameter.value.elements[3] == 5)
    }

    @Test func mistakesTrap() async {
        await #expect(processExitsWith: .failure) {
            let parameter = Parameter(.zeros([2]))
            parameter.setMask(Mask(words: [1], shape: [2]))
            parameter.lockMask()
            parameter.setMask(Mask(words: [2], shape: [2]))
        }
        await #expect(processExitsWith: .failure) {
            let parameter = Parameter(.zeros([2]))
            parameter.setMask(Mask(words: [1], shape: [2]))
            parameter.lockMask()
            parameter.setMask(nil)
        }
        await #expect(processExitsWith: .failure) {
            Parameter(.zeros([2])).setMask(Mask(words: [1], shape: [1, 2]))
        }
        await #expect(processExitsWith: .failure) { Parameter(.zeros([2])).assign(.zeros([3])) }
    }
}
