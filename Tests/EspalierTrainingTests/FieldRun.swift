import EspalierCodec
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation

/// Runs of a small network whose steps, rates and losses can be computed beside them: no batch
/// norm, no dropout and no augmentation, unless asked for.
struct FieldRun {
    /// A batch of all training images: an epoch of one step.
    static let whole = "batch: 1000"
    /// Weights that stay where they were drawn.
    static let still = "optimizer: {sgd: {rate: 0}}"
    /// 96 images without a fifth.
    static let examples = 77

    let tiny: TinyRun

    init(in folder: String) throws { tiny = try TinyRun(in: folder, recipe: "") }

    /// Carries out stages, each given by the fields of its entry; the first makes a network.
    ///
    /// - Returns: the epochs' lines of the log.
    @discardableResult
    func run(
        _ out: String, _ stages: String..., model: String = "family: mlp, hidden: [8]",
        data: String = "dev: 20%", seed: Int = 5, observe: @escaping RunObserver = { _ in }
    ) throws -> [Epoch] {
        let entries = stages.enumerated().map { index, fields in
            let name = ["one", "two"][index]
            let model = index == 0 ? "model: network, " : ""
            return "  - {name: \(name), on: classes, \(model)\(fields)}"
        }
        let recipe = """
            name: fields
            seed: \(seed)
            data: {classes: {dataset: tiny, classes: 4, \(data)}}
            models: {network: {\(model)}}
            stages:
            \(entries.joined(separator: "\n"))
            """
        try recipe.write(toFile: tiny.path, atomically: false, encoding: .utf8)
        try tiny.run(out, observe: observe)
        return try epochs(out)
    }

    /// A line of the log about an epoch.
    struct Epoch: Decodable {
        var stage: String
        var epoch: Int
        var step: Int
        var loss: Double
        var rate: Double
        var sparsity: Double
        var devAccuracy: Double?
        var devLoss: Double?
        var isBest: Bool
    }

    private func epochs(_ out: String) throws -> [Epoch] {
        let log = try String(contentsOfFile: "\(tiny.folder)/\(out)/log.jsonl", encoding: .utf8)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try log.split(separator: "\n").filter { $0.contains("\"event\":\"epoch\"") }
            .map { try decoder.decode(Epoch.self, from: Data($0.utf8)) }
    }

    /// The network that a stage left.
    func network(_ out: String, _ stage: String = "one") throws -> Network {
        try NetworkFile(
            contentsOf: RunFolder(path: "\(tiny.folder)/\(out)").network(stage)
        ).network
    }

    /// The network after a stage's last saved step.
    func lastNetwork(_ out: String, _ stage: String = "one") throws -> Network {
        try NetworkFile(contentsOf: RunFolder(path: "\(tiny.folder)/\(out)").last(stage)).network
    }

    /// The network that a stage left, bit for bit.
    func bits(_ out: String, _ stage: String = "one") throws -> [String: [UInt32]] {
        try network(out, stage).bits
    }

    /// The data of the recipe that was last run.
    func data() throws -> TaskData {
        try FieldRun.data("classes", of: Recipe(path: tiny.path))
    }

    static func data(_ name: String, of recipe: Recipe) throws -> TaskData {
        guard let entry = recipe.data[name] else { throw GoldenError("no data '\(name)'") }
        return try TaskData(name, entry, recipe)
    }
}

extension Network {
    /// All tensors by name.
    var tensors: [String: Tensor] {
        let set = ParameterSet(self)
        let parameters = set.entries.map { ($0.name, $0.parameter.value) }
        let all = parameters + set.buffers.map { ($0.name, $0.buffer.value) }
        return Dictionary(all) { first, _ in first }
    }

    var bits: [String: [UInt32]] { tensors.mapValues { $0.elements.map(\.bitPattern) } }

    /// The Euclidean distance of all tensors.
    func distance(to other: Network) -> Double {
        let others = other.tensors
        return tensors.reduce(0) { sum, entry in
            zip(entry.value.elements, others[entry.key]?.elements ?? []).reduce(sum) {
                $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1))
            }
        }.squareRoot()
    }
}
