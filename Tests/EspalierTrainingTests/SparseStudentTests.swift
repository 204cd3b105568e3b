import EspalierCodec
import EspalierInterchange
import EspalierNN
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// Mechanism 10: a sparse student from two teachers.
@Suite struct SparseStudentTests {
    /// Names of masked tensors, their masks and values, in a network file or checkpoint.
    private func masks(_ path: String) throws -> [String: Mask] {
        let file = try NetworkFile(contentsOf: path)
        return ParameterSet(file.network).entries.reduce(into: [:]) {
            $0[$1.name] = $1.parameter.mask
        }
    }

    @Test(
        "T10.2: the pattern is locked in every step, and what is pruned is exactly +0",
        arguments: [[], TinyRun.quantized])
    func T10_2_lockedInEveryStep(_ more: [String]) throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let set =
                ["stages.student.checkpoint_every=1 steps", "stages.student.epochs=12"] + more
            var checked = 0
            var pattern: [String: Mask]?
            var first: Tensor?
            var last: Tensor?
            try tiny.run(
                "run", set: set,
                observe: { event in
                    guard case .writing(let path, .renamed) = event,
                        path.hasSuffix("student/last.safetensors"),
                        !path.contains("sparse_student"),
                        let file = try? SafeTensors(contentsOf: path)
                    else { return }
                    guard let masks = try? self.masks(path) else { return }
                    #expect(masks == pattern ?? masks)
                    pattern = masks
                    for (name, mask) in masks {
                        for key in [name, "optimizer.momentum." + name] {
                            guard let values = try? file.tensor(key).elements else { continue }
                            for index in values.indices where !mask.isLive(index) {
                                #expect(values[index].bitPattern == 0)
                            }
                            checked += 1
                        }
                    }
                    last = try? file.tensor("hidden.weight")
                    first = first ?? last
                })
            let start = try masks(folder + "/run/sparse_student/network.safetensors")
            #expect(pattern == start && !start.isEmpty)
            #expect(checked > 50)
            // The live weights did move.
            #expect(first.map { a in last.map { !a.isIdentical(to: $0) } ?? false } ?? false)
        }
    }

    @Test("T10.5: one sparse student serves two tasks with the same pattern")
    func T10_5_samePatternAcrossTasks() throws {
        try Fixtures.withFolder { folder in
            let second = """

                  - name: halves_teacher
                    start_from: pretext_teacher
                    head: new
                    on: halves
                    epochs: 2
                  - name: halves_student
                    start_from: sparse_student
                    head: new
                    on: halves
                    epochs: 2
                    lock_masks: true
                    distill: {teacher: halves_teacher}
                report: {teacher: task_teacher, student: student, controls: {halves: halves_student}}
                """
            let recipe = TinyRun.recipe
                .replacing("report: {teacher: task_teacher, student: student}", with: "")
                .replacing("models:", with: "  halves: {dataset: halves, classes: 2}\nmodels:")
            let tiny = try TinyRun(in: folder, recipe: recipe + second)
            try TinyRun.writeDataset(folder + "/datasets/halves") { $0.map { $0 / 2 } }
            let result = try tiny.run("run")
            let patterns = ["sparse_student", "student", "halves_student"].map { name in
                result.stages.first { $0.stage == name }?.pattern
            }
            #expect(Set(patterns).count == 1 && patterns[0] != nil)
        }
    }

    @Test("T10.4 in part: exactly the count asked for, counted in the weights")
    func T10_4_exactCount() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let result = try tiny.run("run")
            // hidden.weight is 16 x 36: 144 blocks of four, of which 75 % are pruned.
            #expect(result.prunable == 576)
            #expect(result.pruned == 432)
            #expect(result.sparsity == 0.75)
        }
    }

    @Test("T10.4 in part: teachers are frozen while they teach, and differ")
    func T10_4_teachersAreFrozen() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            var before: [String: Data] = [:]
            func bytes(_ stage: String) -> Data? {
                FileManager.default.contents(atPath: "\(folder)/run/\(stage)/network.safetensors")
            }
            let result = try tiny.run(
                "run",
                observe: { event in
                    if case .stageEnded(let stage) = event { before[stage] = bytes(stage) }
                })
            for stage in ["pretext_teacher", "task_teacher"] {
                #expect(before[stage] == bytes(stage))
            }
            #expect(bytes("pretext_teacher") != bytes("task_teacher"))
            let student = try NetworkFile(contentsOf: folder + "/run/student/network.safetensors")
            let lineage = student.description.lineage
            func checksum(_ stage: String) -> String? {
                result.stages.first { $0.stage == stage }?.checksum
            }
            #expect(lineage.teacher?.checksum == checksum("task_teacher"))
            #expect(lineage.startFrom?.checksum == checksum("sparse_student"))
        }
    }

    @Test("The test part is read once, after all training, and the log proves it")
    func testPartIsReadLast() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let log = try String(contentsOfFile: folder + "/run/log.jsonl", encoding: .utf8)
            let events = try log.split(separator: "\n").map { line in
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
                return (object as? [String: Any])?["event"] as? String ?? ""
            }
            #expect(events.filter { $0 == "test_opened" }.count == 1)
            let opened = try #require(events.firstIndex(of: "test_opened"))
            #expect(events[..<opened].allSatisfy { ["stage", "epoch", "export"].contains($0) })
            #expect(events[opened...].dropFirst().allSatisfy { $0 == "test" })
            #expect(events.filter { $0 == "test" }.count == 2)
        }
    }

    @Test("A network is measured as the run measured it")
    func evaluation() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let result = try tiny.run("run", set: ["stages.student.epochs=12"])
            let measured = try NetworkEvaluation(
                file: folder + "/run/student/network.safetensors", data: folder + "/datasets/tiny",
                part: "test")
            #expect(measured.count == 40)
            #expect(Double(measured.correct) / 40 == result.trainedAccuracy)
            #expect(result.trainedAccuracy ?? 0 > 0.7)
        }
    }

    @Test("What is pruned stays pruned, also where a start is sparser than the rule's beginning")
    func pruningNeverGoesBack() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            var shares: [Double] = []
            try tiny.run(
                "run",
                set: [
                    "stages.student.lock_masks=false", "stages.student.select=last",
                    "stages.student.prune={to: 90%, during: [5%, 60%], every: 1 steps, "
                        + "except: [\"head.*\", \"conv1.*\"], "
                        + "pattern: {block: {outputs: 1, inputs: 4}}}",
                ],
                observe: { event in
                    if case .stepped(let now) = event, now.stage == "student" {
                        shares.append(now.sparsity)
                    }
                })
            #expect(shares.first ?? 0 >= 0.75 && shares == shares.sorted())
            #expect(abs((shares.last ?? 0) - 0.9) < 0.005)
        }
    }

    @Test("A stage starts from a file of another run")
    func startFromFile() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let more = """
                data: {classes: {dataset: tiny, classes: 4}}
                stages:
                  - name: more
                    start_from: \(folder)/run/student/network.safetensors
                    on: classes
                    epochs: 1
                    lock_masks: true
                    freeze: ["conv1.*"]
                """
            try more.write(toFile: tiny.path, atomically: false, encoding: .utf8)
            let result = try tiny.run("more")
            #expect(result.stages[0].pruned == 432)
            func conv(_ run: String) throws -> Tensor? {
                let file = try NetworkFile(contentsOf: "\(folder)/\(run)/network.safetensors")
                return ParameterSet(file.network)["conv1.weight"]?.value
            }
            let (before, after) = (try conv("run/student"), try conv("more/more"))
            #expect(before.map { a in after.map { a.isIdentical(to: $0) } ?? false } ?? false)
        }
    }
}
