import EspalierCodec
import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors
import Foundation

/// A recipe being carried out: its stages one after the other, then the closing table.
public struct TrainingRun {
    /// What to do.
    public let recipe: Recipe
    /// Where everything goes.
    public let folder: String
    /// Whether to go on with a run that is in the folder.
    public let resumes: Bool

    /// A run of a recipe into a folder.
    public init(recipe: Recipe, folder: String, resumes: Bool = false) {
        self.recipe = recipe
        self.folder = folder
        self.resumes = resumes
    }

    /// Trains all stages and reads the test part. The recipe is taken as checked: see `Recipe.checked`.
    ///
    /// - Parameters:
    ///   - observe: Hears of everything as it happens.
    ///   - shouldStop: Asked before every step; true saves the state and throws `RunInterrupted`.
    /// - Throws: `RecipeError`, `DataError`, `FileError`, `TrainingError` or `RunInterrupted`.
    public func run(
        observe: @escaping RunObserver = { _ in }, shouldStop: @escaping () -> Bool = { false }
    ) throws -> RunResult {
        let clock = ContinuousClock()
        let start = clock.now
        let data = try recipe.data.reduce(into: [String: TaskData]()) {
            $0[$1.key] = try TaskData($1.key, $1.value, recipe)
        }
        let place = RunFolder(path: folder)
        let lock = try place.prepare(
            recipe, source: FileAccess.exists(recipe.path) ? FileAccess.read(recipe.path) : [],
            data: data.mapValues(\.checksum), resumes: resumes)
        defer { withExtendedLifetime(lock) {} }
        if resumes, FileAccess.exists(place.result) {
            // The test part is not read a second time.
            observe(.note("the run is complete; this is its result"))
            return try RunResult(contentsOf: place.result)
        }
        let checkpoints = try savedStates(place)
        let log = try RunLog(
            path: place.log, length: checkpoints.last(where: { $0 != nil })??.state.logBytes ?? 0)
        let context = RunContext(
            recipe: recipe, folder: place, log: log, observe: observe, shouldStop: shouldStop)
        for (stage, checkpoint) in zip(recipe.stages, checkpoints) {
            if let checkpoint, checkpoint.state.isComplete {
                observe(.note("stage '\(stage.name.value)' is complete"))
                continue
            }
            guard let data = data[stage.data.value] else {
                throw TrainingError("no data '\(stage.data.value)'")
            }
            try StageRunner(stage, data, context, resuming: checkpoint).run()
        }
        let deployment = try recipe.export.map { try Deployment($0, place, log, observe) }
        let result = try RunResult(recipe, place, log, data, deployment, observe) {
            let elapsed = (clock.now - start).components
            return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
        }
        try FileAccess.writeAtomically(Array((result.json() + "\n").utf8), to: place.result)
        return result
    }

    // The saved state of each stage; a later stage's counts only behind complete ones.
    private func savedStates(_ place: RunFolder) throws -> [Checkpoint?] {
        var states: [Checkpoint?] = []
        var mayExist = true
        for stage in recipe.stages {
            let path = place.last(stage.name.value)
            guard mayExist, FileAccess.exists(path) else {
                states.append(nil)
                mayExist = false
                continue
            }
            let checkpoint = try Checkpoint(contentsOf: path)
            guard checkpoint.recipe == recipe.fingerprint,
                checkpoint.description.lineage.stage == stage.name.value
            else { throw FileError(path: path, "it belongs to another stage or another recipe") }
            states.append(checkpoint)
            mayExist = checkpoint.state.isComplete
        }
        return states
    }
}
