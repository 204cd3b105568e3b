import EspalierEngine
import EspalierTensors
import Foundation

/// Attention by its definition, head by head.
func attentionProperties(_ draw: inout Draw) -> [PropertyCase] {
    let (batch, queries, keys) = (draw.extent(), draw.extent(), draw.extent())
    let (heads, depth) = (draw.pick([1, 2, 3]), draw.pick([1, 2, 3, 5]))
    let size = heads * depth
    let keep = draw.bits([batch, keys])
    let q = draw.normal([batch, queries, size])
    let (k, v) = (draw.normal([batch, keys, size]), draw.normal([batch, keys, size]))
    return [false, true].flatMap { isCausal in
        [nil, keep].map { mask in
            PropertyCase("attention, causal \(isCausal), masked \(mask != nil)", [q, k, v]) {
                $0[0].attention(
                    keys: $0[1], values: $0[2], heads: heads, keyMask: mask, isCausal: isCausal)
            } is: { operands in
                Naive([batch, queries, size]) { place in
                    let (b, i, head) = (place[0], place[1], place[2] / depth)
                    let seen = (0..<keys).filter { j in
                        (!isCausal || j <= i) && mask.map { $0.elements[b * keys + j] != 0 } ?? true
                    }
                    let scores = seen.map { j in
                        (head * depth..<(head + 1) * depth).reduce(0) {
                            $0 + operands[0][[b, i, $1]] * operands[1][[b, j, $1]]
                        } / Double(depth).squareRoot()
                    }
                    let largest = scores.max() ?? 0
                    let shares = scores.map { exp($0 - largest) }
                    let total = shares.reduce(0, +)
                    // Who sees nothing finds nothing.
                    return zip(seen, shares).reduce(0) {
                        $0 + $1.1 / total * operands[2][[b, $1.0, place[2]]]
                    }
                }
            }
        }
    }
}

/// The norm of a sum, by its definition.
func residualNormProperties(_ draw: inout Draw) -> [PropertyCase] {
    let shape = draw.extents(1...3)
    let own = [shape[shape.count - 1]]
    let epsilon = 0.01
    let inputs = [draw.normal(shape), draw.normal(shape), draw.normal(own), draw.normal(own)]
    return [
        PropertyCase("residual norm", inputs) {
            $0[0].residualNorm($0[1], weight: $0[2], bias: $0[3], epsilon: Float(epsilon))
        } is: { operands in
            let sum = Naive(shape) { operands[0][$0] + operands[1][$0] }
            let axes = [shape.count - 1]
            let middle = sum.reduced(axes, mean)
            let scale = sum.reduced(axes) { 1 / (variance($0, 0) + epsilon).squareRoot() }
            return Naive(shape) {
                (sum[$0] - middle[$0]) * scale[$0] * operands[2][$0] + operands[3][$0]
            }
        }
    ]
}
