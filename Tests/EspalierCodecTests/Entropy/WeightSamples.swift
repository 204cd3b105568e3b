import Foundation

/// Integer codes as trained networks have them, and as they do not.
enum WeightSamples {
    /// A pseudo-random number generator that is the same everywhere (xorshift64*).
    struct Generator: RandomNumberGenerator {
        private var state: UInt64

        init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

        mutating func next() -> UInt64 {
            state ^= state >> 12
            state ^= state << 25
            state ^= state >> 27
            return state &* 0x2545_F491_4F6C_DD1D
        }

        mutating func uniform() -> Double { (Double(next() >> 11) + 0.5) * 0x1p-53 }
    }

    enum Kind: String, CaseIterable, Sendable {
        case laplace, pruned, ternary, int4, bytes, extremes, constant, zero, unused, rowScales
    }

    static func codes(_ kind: Kind, rows: Int, columns: Int, seed: UInt64) -> [Int8] {
        var generator = Generator(seed)
        let scale = exp2(generator.uniform() * 6)
        let density = generator.uniform() * 0.4
        func laplace(_ scale: Double) -> Int8 {
            let u = generator.uniform() - 0.5
            let x = -scale * log(1 - 2 * abs(u))
            return Int8(min(max((u < 0 ? -x : x).rounded(), -127), 127))
        }
        var rowScale = scale
        return (0..<rows * columns).map { index in
            if index % max(columns, 1) == 0 { rowScale = exp2(generator.uniform() * 6) }
            switch kind {
            case .laplace: return laplace(scale)
            case .pruned:
                guard generator.uniform() < density else { return 0 }
                let tail = laplace(scale)
                return tail < 0 ? max(tail, -100) - 20 : min(tail, 100) + 20
            case .ternary: return Int8.random(in: -1...1, using: &generator)
            case .int4: return Int8.random(in: -8...7, using: &generator)
            case .bytes: return Int8.random(in: -128...127, using: &generator)
            case .extremes: return generator.uniform() < 0.5 ? -128 : 127
            case .constant: return Int8(truncatingIfNeeded: seed)
            case .zero: return 0
            case .unused: return index == rows * columns / 2 ? -128 : 0
            case .rowScales: return laplace(rowScale)
            }
        }
    }

    static func negativeLog(_ x: Double) -> Double { -log(x) }

    /// Bits that codes cost at least when nothing but how often each occurs is known.
    static func entropy(_ codes: [Int8]) -> Double {
        var counts = [Int](repeating: 0, count: 256)
        for code in codes { counts[Int(code) + 128] += 1 }
        return counts.reduce(0) {
            $1 > 0 ? $0 - Double($1) * log2(Double($1) / Double(codes.count)) : $0
        }
    }
}
