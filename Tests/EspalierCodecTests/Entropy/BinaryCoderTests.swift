import EspalierCodec
import Testing

/// The coder of quantization information: bytes, chances and numbers that are frozen.
@Suite struct BinaryCoderTests {
    private func coded(_ bits: [Bool]) -> (bytes: [UInt8], zero: UInt32) {
        var encoder = BinaryEncoder()
        var context = AdaptiveBit()
        for bit in bits { encoder.put(bit, &context) }
        return (encoder.finish(), context.zero)
    }

    @Test("T6.1: the frozen bytes of the binary coder")
    func T6_1_conformance() {
        let bits = "0001000010000000".map { $0 == "1" }
        let few = coded(bits)
        #expect(few.bytes == [0x00, 0x13, 0xF5, 0x33, 0xE9, 0x00])
        #expect(few.zero == 1334)
        let many = coded([Bool](repeating: false, count: 1000))
        #expect(many.bytes.count == 10)
        #expect(many.zero == 2017)
        var decoder = BinaryDecoder(few.bytes[...])
        var context = AdaptiveBit()
        #expect(bits.map { _ in decoder.take(&context) } == bits)
        #expect(!decoder.isExhausted)
    }

    @Test("T6.1: exponential Golomb codes and the map of signed numbers")
    func T6_1_expGolomb() {
        func text(_ value: UInt32, _ order: Int) -> String {
            let (bits, count) = ExpGolomb.bits(value, order: order)
            let digits = String(bits, radix: 2)
            return String(repeating: "0", count: count - digits.count) + digits
        }
        #expect((0...4).map { text($0, 0) } == ["1", "010", "011", "00100", "00101"])
        #expect((0...4).map { text($0, 2) } == ["100", "101", "110", "111", "01000"])
        #expect([0, 1, -1, 2, -2].map { ExpGolomb.folded($0) } == [0, 1, 2, 3, 4])
        #expect(text(ExpGolomb.folded(-1), 2) == "110")
        for value: Int32 in [0, 1, -1, 77, -78, .max, -.max] {
            #expect(ExpGolomb.unfolded(ExpGolomb.folded(value)) == value)
        }
    }

    @Test("What is put is taken: bits, plain bits, numbers of every order", arguments: 0..<40)
    func roundTrip(seed: Int) {
        var generator = WeightSamples.Generator(UInt64(seed) + 1)
        var encoder = BinaryEncoder()
        var flags = [AdaptiveBit](repeating: AdaptiveBit(), count: 3)
        var golomb = [GolombContexts](repeating: GolombContexts(), count: 17)
        let chance = generator.uniform()
        let steps = (0..<3000).map { _ in
            let shift = UInt32.random(in: 0...31, using: &generator)
            let number = UInt32.random(in: 0...(.max >> shift), using: &generator)
            return (Int.random(in: 0..<20, using: &generator), generator.uniform() < chance, number)
        }
        for (kind, bit, number) in steps {
            switch kind {
            case 0..<3: encoder.put(bit, &flags[kind])
            case 3: encoder.putPlain(number, count: 32)
            default: encoder.put(number, order: kind - 4 + 1, &golomb[kind - 3])
            }
        }
        let bytes = encoder.finish()
        var decoder = BinaryDecoder(bytes[...])
        flags = flags.map { _ in AdaptiveBit() }
        golomb = golomb.map { _ in GolombContexts() }
        for (kind, bit, number) in steps {
            switch kind {
            case 0..<3: #expect(decoder.take(&flags[kind]) == bit)
            case 3: #expect(decoder.takePlain(count: 32) == number)
            default: #expect(decoder.take(order: kind - 4 + 1, &golomb[kind - 3]) == number)
            }
        }
        #expect(!decoder.isExhausted)
    }

    @Test("Any bytes give some numbers or nil")
    func damage() {
        for seed in 0..<2000 {
            var generator = WeightSamples.Generator(UInt64(seed) + 1)
            let bytes = (0..<Int.random(in: 0..<40, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            var decoder = BinaryDecoder(bytes[...])
            var contexts = GolombContexts()
            for _ in 0..<50 {
                _ = decoder.take(order: seed % 17, &contexts)
                _ = decoder.take(signedOrder: seed % 5, &contexts)
            }
            #expect(decoder.isExhausted)
        }
    }
}
