import EspalierCodec
import EspalierData
import EspalierNN
import EspalierRuntime

/// The export of a run: the file is written, read again, and asked.
struct Deployment {
    let stage: String
    let deployed: DeployedNetwork
    private let export: Recipe.Export

    /// Writes the file that the recipe asks for; it replaces an earlier one in one step.
    ///
    /// - Throws: `TrainingError` where it cannot be written as asked, `FileError` where it cannot be written at all.
    init(
        _ export: Recipe.Export, _ folder: RunFolder, _ log: RunLog, _ observe: RunObserver
    ) throws {
        self.export = export
        stage = export.stage.value
        let file = try NetworkFile(contentsOf: folder.network(stage))
        let bytes: [UInt8]
        do {
            bytes = try DeployedNetwork.bytes(file)
        } catch {
            throw TrainingError("stage '\(stage)' cannot be exported: \(error)")
        }
        if let limit = export.sizeBelow, bytes.count >= limit {
            throw TrainingError(
                "the export of '\(stage)' has \(bytes.count) bytes, `size_below` asks for less "
                    + "than \(limit); prune more, or raise the limit")
        }
        let path = folder.exported(stage)
        try FileAccess.writeAtomically(bytes, to: path) { observe(.writing(path, $0)) }
        // What counts is what is on the disk.
        deployed = try DeployedNetwork(contentsOf: path)
        try log.append(Record(stage: stage, bytes: deployed.byteCount))
        observe(.exported(path: path, bytes: deployed.byteCount))
    }

    private struct Record: Encodable {
        var event = "export"
        var stage: String
        var bytes: Int
    }

    /// The file on examples, and whether it classifies each as the trainer's own network in memory does.
    ///
    /// - Throws: `TrainingError` where the recipe asks for equal predictions and one differs.
    func evaluate(on examples: ImageBatches, trained: Evaluation) throws -> (Evaluation, Bool) {
        let evaluation = Evaluation(of: deployed.model, on: examples)
        let differing = zip(evaluation.predictions, trained.predictions).enumerated().filter {
            $0.element.0 != $0.element.1
        }
        if export.requiresEqualPredictions, let first = differing.first {
            throw TrainingError(
                "the export of '\(stage)' classifies \(differing.count) of \(evaluation.count) examples "
                    + "otherwise than the trained network, the first is example \(first.offset): "
                    + "\(first.element.0) instead of \(first.element.1)")
        }
        return (evaluation, differing.isEmpty)
    }
}

extension RunFolder {
    /// The file that a stage's network is exported to.
    package func exported(_ stage: String) -> String { "\(path)/\(stage)/network.espalier" }
}
