import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Foundation

/// Golden cases of whole transformers, trained for a few steps.
let goldenModelBodies: [String: GoldenRunner.Body] = [
    "bert_classifier": { test in
        let classes = try test.tensor("param.classifier.bias").count
        let model = try BertClassifier(
            bertConfiguration(test), classes: classes, random: RandomStream(seed: 1))
        let (tokens, labels) = (try tokens(test), try test.integers("input.labels"))
        return try trained(test, ParameterSet(model)) { tape in
            let output = model.bert(tokens, on: tape)
            let logits = model.logits(of: output)
            return Forward(
                logits: logits, loss: logits.crossEntropy(labels), states: output.hiddenStates)
        }
    },
    "bert_mlm": { test in
        let model = try BertMaskedLM(bertConfiguration(test), random: RandomStream(seed: 1))
        let (tokens, labels) = (try tokens(test), try test.integers("input.labels"))
        return try trained(test, ParameterSet(model)) { tape in
            let output = model.bert(tokens, on: tape)
            let logits = model.logits(of: output)
            return Forward(
                logits: logits, loss: logits.crossEntropy(labels, ignoredClass: -100),
                states: output.hiddenStates)
        }
    },
    "gpt2_lm": { test in
        let configuration: GPTConfiguration = try configuration(test)
        var plain = configuration
        plain.dropout = 0
        let model = try GPTLanguageModel(plain, random: RandomStream(seed: 1))
        let tokens = try tokens(test)
        return try trained(test, ParameterSet(model), isTransposed: GPT.isTransposed) { tape in
            let states = model.transformer(tokens, on: tape)
            let logits = model.logits(of: states[states.count - 1])
            return Forward(
                logits: logits,
                loss: logits.crossEntropy(tokens.nextTokens(), ignoredClass: -100),
                states: states)
        }
    },
]

private func configuration<Configuration: Decodable>(_ test: GoldenCase) throws -> Configuration {
    try JSONDecoder().decode(
        Configuration.self, from: JSONSerialization.data(withJSONObject: test.object("config")))
}

private func bertConfiguration(_ test: GoldenCase) throws -> BertConfiguration {
    var configuration: BertConfiguration = try configuration(test)
    (configuration.dropout, configuration.attentionDropout) = (0, 0)
    return configuration
}

private func tokens(_ test: GoldenCase) throws -> TokenBatch {
    TokenBatch(
        ids: try test.integers("input.input_ids"), mask: try test.tensor("input.attention_mask"),
        types: test.has("input.token_type_ids") ? try test.integers("input.token_type_ids") : nil)
}

private struct Forward {
    let logits: Value
    let loss: Value
    let states: [Value]
}

/// The first step's results and gradients, then the losses of some steps of AdamW and what these leave.
private func trained(
    _ test: GoldenCase, _ set: ParameterSet, isTransposed: (String) -> Bool = { _ in false },
    _ forward: (Tape) -> Forward
) throws -> [String: GoldenResult] {
    func turned(_ name: String, _ tensor: Tensor) -> Tensor {
        isTransposed(name) ? tensor.permuted([1, 0]) : tensor
    }
    let missing = try set.assign { name in
        test.has("param.\(name)") ? turned(name, try test.tensor("param.\(name)")) : nil
    }
    guard missing.isEmpty else { throw GoldenError("no tensors for \(missing)") }
    for (name, first) in test.object("tied") {
        guard set.aliases[name] == first as? String else {
            throw GoldenError("\(name) is not tied")
        }
    }
    var results: [String: GoldenResult] = [:]
    let train = test.object("train")
    func number(_ key: String) -> Float { (train[key] as? NSNumber)?.floatValue ?? .nan }
    let betas = (train["betas"] as? [NSNumber])?.map(\.floatValue) ?? [.nan, .nan]
    var optimizer = AdamW(
        beta1: betas[0], beta2: betas[1], epsilon: number("eps"),
        weightDecay: number("weight_decay"))
    var losses: [Float] = []
    for step in 0..<Int(number("steps")) {
        let tape = Tape(mode: .training)
        let result = forward(tape)
        losses.append(result.loss.tensor.scalar)
        if step == 0 {
            results["output.logits"] = .tensor(result.logits.tensor)
            results["output.loss"] = .tensor(result.loss.tensor)
            for (index, state) in result.states.enumerated() {
                results["expected.hidden_states.\(index)"] = .tensor(state.tensor)
            }
        }
        let gradients = tape.gradients(of: result.loss)
        if step == 0 {
            for entry in set.entries {
                results["grad.\(entry.name)"] = gradients[entry.parameter].map {
                    .tensor(turned(entry.name, $0))
                }
            }
        }
        optimizer.update(set, with: gradients, rate: number("lr"))
    }
    let result = forward(Tape(mode: .evaluation, isRecording: false))
    losses.append(result.loss.tensor.scalar)
    results["expected.losses"] = .tensor(Tensor(losses, shape: [losses.count]))
    results["expected.logits_after"] = .tensor(result.logits.tensor)
    for entry in set.entries {
        results["expected.after.\(entry.name)"] = .tensor(turned(entry.name, entry.parameter.value))
    }
    return results
}
