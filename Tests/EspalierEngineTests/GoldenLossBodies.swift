import EspalierEngine
import EspalierGraph
import EspalierTensors
import EspalierTesting

/// Golden cases of the losses that are made of other ops.
let goldenLossBodies: [String: GoldenRunner.Body] = [
    "mse": pair { $1[0].squaredError($1[1], reduction($0)) },
    "l1": pair { $1[0].absoluteError($1[1], reduction($0)) },
    "huber": pair { test, values in
        values[0].huber(
            values[1], delta: Float(test.number("delta", default: 1)), reduction(test))
    },
    "smooth_l1": pair { test, values in
        values[0].smoothAbsoluteError(
            values[1], beta: Float(test.number("beta", default: 1)), reduction(test))
    },
    "bce_with_logits": { test in
        func optional(_ name: String) throws -> Tensor? {
            test.has(name) ? try test.tensor(name) : nil
        }
        let target = try test.tensor("input.target")
        let weight = try optional("input.weight")
        let positive = try optional("input.pos_weight")
        return try operands(test, "input.x", result: "loss") {
            $0[0].binaryCrossEntropy(
                target, weight: weight, positiveWeight: positive, reduction(test))
        }
    },
    "nll": { test in
        let classes = try test.integers("input.target")
        let weights =
            test.has("input.class_weight") ? try test.tensor("input.class_weight") : nil
        return try operands(test, "input.x", result: "loss") {
            $0[0].negativeLogLikelihood(
                classes, classWeights: weights,
                ignoredClass: test.ints("ignore_index").map { Int32($0[0]) }, reduction(test))
        }
    },
    "cosine_embedding": { test in
        let labels = try test.tensor("input.target")
        return try operands(test, "input.x1", "input.x2", result: "loss") {
            $0[0].cosineEmbedding(
                $0[1], labels: labels, margin: Float(test.number("margin", default: 0)),
                reduction(test))
        }
    },
]

private func reduction(_ test: GoldenCase) -> Reduction {
    switch test.string("reduction") {
    case "none": .none
    case "sum": .sum
    default: .mean
    }
}

/// A loss with gradients for both sides.
private func pair(
    _ loss: @escaping @Sendable (GoldenCase, [Value]) -> Value
) -> GoldenRunner.Body {
    { test in
        try operands(test, "input.x", "input.target", result: "loss") { loss(test, $0) }
    }
}
