import EspalierData
import EspalierEngine
import EspalierInterchange
import EspalierNN
import EspalierTensors
import Foundation

/// A recipe being carried out: its stages one after the other, then the closing table.
public struct TrainingRun {
    /// What to do.
    public let recipe: Recipe
    /// Where everything goes.
    public let folder: String
    /// `--set` pairs that the recipe was read with.
    public let assignments: [String]
    /// Whether to go on with a run that is in the folder.
    public let resumes: Bool

    /// A run of a recipe into a folder.
    public init(recipe: Recipe, folder: String, assignments: [String] = [], resumes: Bool = false) {
        self.recipe = recipe
        self.folder = folder
        self.assignments = assignments
        self.resumes = resumes
    }

    /// Trains all stages and reads the test part.
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
        try recipe.check()
        let place = RunFolder(path: folder)
        try place.prepare(
            recipe, source: FileAccess.exists(recipe.path) ? FileAccess.read(recipe.path) : [],
            assignments: assignments, resumes: resumes)
        let checkpoints = try savedStates(place)
        let log = try RunLog(
            path: place.log, length: checkpoints.last(where: { $0 != nil })??.state.logBytes ?? 0)
        let context = RunContext(
            recipe: recipe, folder: place, log: log, observe: observe, shouldStop: shouldStop)
        var loaded: [String: TaskData] = [:]
        func data(_ name: String) throws -> TaskData {
            if let data = loaded[name] { return data }
            guard let entry = recipe.data[name] else { throw TrainingError("no data '\(name)'") }
            let data = try TaskData(name, entry, seed: recipe.seed, recipePath: recipe.path)
            loaded[name] = data
            return data
        }
        for (stage, checkpoint) in zip(recipe.stages, checkpoints) {
            if let checkpoint, checkpoint.state.isComplete {
                observe(.note("stage '\(stage.name.value)' is complete"))
                continue
            }
            let runner = try StageRunner(
                stage, data(stage.data.value), context, resuming: checkpoint)
            try runner.run()
        }
        let result = try RunResult(recipe, place, log, data, observe) {
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
            guard checkpoint.recipe == recipe.fingerprint else {
                throw FileError(path: path, "it belongs to a run of another recipe")
            }
            states.append(checkpoint)
            mayExist = checkpoint.state.isComplete
        }
        return states
    }
}
