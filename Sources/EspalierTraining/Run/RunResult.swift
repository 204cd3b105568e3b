import EspalierCodec
import EspalierData
import EspalierEngine
import EspalierNN
import EspalierRuntime
import EspalierTensors
import Foundation

/// The closing table of a run, also written as `result.json`.
public struct RunResult: Sendable, Codable {
    /// The recipe's name.
    public var name: String
    /// The run's seed.
    public var seed: UInt64
    /// Share of the test part that the dense teacher classifies.
    public var teacherAccuracy: Double?
    /// Share of the test part that the student classifies.
    public var trainedAccuracy: Double?
    /// Share of the test part that the exported file classifies, read again from the disk.
    public var deployedAccuracy: Double?
    /// Whether file and trained network classify every example of the test part alike.
    public var predictionsEqual: Bool?
    /// The student's own forward in training's arithmetic against the runtime, on the test part.
    public var tape: TapeAgreement?
    /// Bytes of the teacher's weights as a safetensors file of floats.
    public var teacherBytes: Int?
    /// Bytes of the exported file.
    public var studentBytes: Int?
    /// Of the teacher in floats and of the exported file, side by side, in milliseconds.
    public var latencyMs: Latencies?
    /// Share of the student's prunable weights that are exactly +0 under its masks.
    public var sparsity: Double?
    /// The number of those weights.
    public var pruned: Int?
    /// All weights of the student's masked parameters.
    public var prunable: Int?
    /// Wall-clock time of this call; a resumed run counts from its resume.
    public var seconds: Double
    /// All stages in order.
    public var stages: [Row]

    /// Two networks measured side by side; see `Latency`.
    public struct Latencies: Sendable, Codable, Equatable {
        /// The dense teacher, in floats.
        public var denseFloat: Latency
        /// The exported file.
        public var deployed: Latency
        /// How many threads took part.
        public var threads: Int
    }

    /// How far tape and runtime agree; see `TapeComparison`.
    public struct TapeAgreement: Sendable, Codable, Equatable {
        /// The least share of any layer's codes that are within one step.
        public var codesWithinOne: Double
        /// Examples that both give the same class.
        public var sameClass: Int
        /// Examples.
        public var count: Int
    }

    /// A stage's network.
    public struct Row: Sendable, Codable {
        /// The stage's name.
        public var stage: String
        /// What the report calls it.
        public var role: String?
        /// The data that it was trained on.
        public var data: String
        /// Of the network that the stage left, on the dev part.
        public var devAccuracy: Double?
        /// Share of the test part that it classifies, where the report names it.
        public var testAccuracy: Double?
        /// The number of those examples.
        public var testCorrect: Int?
        /// Examples of the test part.
        public var testCount: Int?
        /// Trainable numbers.
        public var parameters: Int
        /// Weights that are exactly +0 under a mask.
        public var pruned: Int
        /// All weights of masked parameters.
        public var prunable: Int
        /// Optimizer steps of it and of what it started from.
        public var steps: Int
        /// Of all its masks.
        public var pattern: String?
        /// Of its file.
        public var checksum: String

        /// Share of the weights of masked parameters that are +0.
        public var sparsity: Double { prunable == 0 ? 0 : Double(pruned) / Double(prunable) }
    }

    init(
        _ recipe: Recipe, _ folder: RunFolder, _ log: RunLog, _ data: [String: TaskData],
        _ deployment: Deployment?, _ observe: RunObserver, seconds: () -> Double
    ) throws {
        name = recipe.name
        seed = recipe.seed
        self.seconds = 0
        self.stages = []
        var stages: [Row] = []
        var teacherModel: Model?
        let roles = RunResult.roles(recipe)
        var tests: [String: ImageBatches] = [:]
        for stage in recipe.stages {
            let file = try NetworkFile(contentsOf: folder.network(stage.name.value))
            let checkpoint = try Checkpoint(contentsOf: folder.last(stage.name.value))
            let chosen = stage.selection == .best ? checkpoint.state.best : nil
            var row = try Row(
                file, stage, role: roles[stage.name.value],
                dev: (chosen ?? checkpoint.state.latest)?.accuracy)
            if row.role != nil {
                if tests[stage.data.value] == nil {
                    if tests.isEmpty { observe(.testOpened) }
                    try log.append(TestOpened(data: stage.data.value))
                    tests[stage.data.value] = try data[stage.data.value]?.loadTest()
                }
                if let test = tests[stage.data.value] {
                    let model = try Model(file.network.graph())
                    let evaluation = Evaluation(of: model, on: test)
                    if row.stage == recipe.report?.teacher.value { teacherModel = model }
                    if row.stage == recipe.report?.student.value {
                        try addStudent(file, model, test, evaluation, deployment, observe)
                    }
                    row.testAccuracy = evaluation.accuracy
                    row.testCorrect = evaluation.correct
                    row.testCount = evaluation.count
                    try log.append(
                        TestRead(
                            stage: row.stage, accuracy: evaluation.accuracy,
                            correct: evaluation.correct, count: evaluation.count))
                }
            }
            stages.append(row)
        }
        let teacher = stages.first { $0.stage == recipe.report?.teacher.value }
        let student = stages.first { $0.stage == recipe.report?.student.value }
        self.stages = stages
        teacherAccuracy = teacher?.testAccuracy
        trainedAccuracy = student?.testAccuracy
        sparsity = student?.sparsity
        pruned = student?.pruned
        prunable = student?.prunable
        if let deployment, let teacherModel, let teacher {
            studentBytes = deployment.deployed.byteCount
            teacherBytes = try FileAccess.read(folder.network(teacher.stage)).count
            observe(.note("measuring latency"))
            let times = Latency.measure([teacherModel, deployment.deployed.model])
            latencyMs = Latencies(
                denseFloat: times[0], deployed: times[1], threads: Machine.threads)
        }
        self.seconds = seconds()
    }

    private mutating func addStudent(
        _ file: NetworkFile, _ model: Model, _ test: ImageBatches, _ trained: Evaluation,
        _ deployment: Deployment?, _ observe: RunObserver
    ) throws {
        let comparison = TapeComparison(file.network, model, on: test)
        tape = TapeAgreement(
            codesWithinOne: comparison.codesWithinOne, sameClass: comparison.sameClass,
            count: comparison.count)
        observe(.compared(comparison))
        guard let deployment else { return }
        let (deployed, isEqual) = try deployment.evaluate(on: test, trained: trained)
        deployedAccuracy = deployed.accuracy
        predictionsEqual = isEqual
    }

    private struct TestOpened: Encodable {
        var event = "test_opened"
        var data: String
    }

    private struct TestRead: Encodable {
        var event = "test"
        var stage: String
        var accuracy: Double
        var correct: Int
        var count: Int
    }

    private static func roles(_ recipe: Recipe) -> [String: String] {
        guard let report = recipe.report else { return [:] }
        var roles = [report.teacher.value: "teacher", report.student.value: "student"]
        for (label, stage) in report.controls { roles[stage.value] = label }
        return roles
    }

    /// Reads the result of a run that is complete.
    ///
    /// - Throws: `FileError` where it is missing or cannot be read.
    public init(contentsOf path: String) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            self = try decoder.decode(RunResult.self, from: Data(FileAccess.read(path)))
        } catch let error as DecodingError {
            throw FileError(path: path, "it is not a result: \(error)")
        }
    }

    /// The result as JSON with snake-case keys.
    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

extension RunResult.Row {
    // Zeros are counted in the weights themselves, not taken from the masks.
    fileprivate init(_ file: NetworkFile, _ stage: Recipe.Stage, role: String?, dev: Double?) throws
    {
        let set = ParameterSet(file.network)
        var (zeros, total) = (0, 0)
        for entry in set.entries {
            guard let mask = entry.parameter.mask else { continue }
            let weights = entry.parameter.value.span
            total += weights.count
            for index in weights.indices where !mask.isLive(index) {
                guard weights[index].bitPattern == 0 else {
                    throw TrainingError(
                        "stage '\(stage.name.value)': pruned weight \(index) of '\(entry.name)' is "
                            + "\(weights[index]), exactly +0 expected")
                }
                zeros += 1
            }
        }
        self.init(
            stage: stage.name.value, role: role, data: stage.data.value, devAccuracy: dev,
            parameters: set.entries.reduce(0) { $0 + $1.parameter.shape.elementCount },
            pruned: zeros, prunable: total, steps: file.description.lineage.steps,
            pattern: set.maskFingerprint, checksum: file.checksum)
    }
}

extension RunResult: CustomStringConvertible {
    /// The table.
    public var description: String {
        var lines = [["stage", "", "dev", "test", "sparsity", "steps"]]
        for row in stages {
            lines.append([
                row.stage, row.role ?? "", percent(row.devAccuracy), percent(row.testAccuracy),
                row.prunable == 0
                    ? "-" : "\(percent(row.sparsity)) of \(row.prunable)", "\(row.steps)",
            ])
        }
        return Table.lines(lines, rightFrom: 2).joined(separator: "\n")
    }

    private func percent(_ share: Double?) -> String {
        share.map { String(format: "%.2f %%", 100 * $0) } ?? "-"
    }
}
