import EspalierTensors
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// A run that is killed and resumed ends in the same bytes as one that is not.
@Suite struct ResumeTests {
    /// A kill at the n-th event of a kind: chosen so that every kind of moment is hit.
    struct Moment: Sendable, Codable, CustomTestStringConvertible {
        var kind: String
        var number: Int
        var testDescription: String { "\(kind) \(number)" }
    }

    static func kind(_ event: RunEvent) -> String {
        switch event {
        case .pruned: "prune update"
        case .writing(_, .opened): "write: empty file"
        case .writing(_, .wrote): "write: in the middle"
        case .writing(_, .synchronized): "write: before the rename"
        case .writing(_, .renamed): "write: after the rename"
        case .stepped: "step"
        case .epochEnded: "epoch"
        case .stageBegan: "stage"
        case .stageEnded: "stage end"
        case .testOpened: "test"
        case .note: "note"
        }
    }

    @Test func killedAnywhere() async throws {
        let folder = NSTemporaryDirectory() + "espalier-kill-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let tiny = try TinyRun(in: folder)
        var counts: [String: Int] = [:]
        try tiny.run("whole", observe: { counts[Self.kind($0), default: 0] += 1 })
        let expected = try tiny.files("whole")
        #expect(expected.count >= 12)

        // Two random moments of each kind, and the first and last write.
        var moments: [Moment] = []
        for (index, (kind, count)) in counts.sorted(by: { $0.key < $1.key }).enumerated()
        where kind != "note" {
            let drawn = RandomStream(seed: 11).child(UInt64(index)).integers(2, below: count)
            moments += Set(drawn).sorted().map { Moment(kind: kind, number: $0) }
        }
        moments.append(Moment(kind: "write: in the middle", number: 0))
        #expect(moments.contains { $0.kind == "prune update" })
        for (index, moment) in moments.enumerated() {
            let out = "killed\(index)"
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [folder = folder as String, moment = moment as Moment, out = out as String] in
                var seen = 0
                let tiny = try TinyRun(in: folder)
                try tiny.run(
                    out,
                    observe: { event in
                        guard Self.kind(event) == moment.kind else { return }
                        if seen == moment.number { kill(getpid(), SIGKILL) }
                        seen += 1
                    })
            }
            try tiny.run(
                out, resumes: FileManager.default.fileExists(atPath: "\(folder)/\(out)/run.json"))
            let got = try tiny.files(out).filter { !$0.key.hasSuffix(".part") }
            #expect(got.keys.sorted() == expected.keys.sorted(), "\(moment)")
            for (name, data) in expected { #expect(got[name] == data, "\(name) after \(moment)") }
        }
    }

    @Test func askedToStop() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("whole")
            var steps = 0
            var stops = 0
            var resumes = false
            // Stops after every 17th step and goes on, until the end is reached.
            while true {
                steps = 0
                do {
                    try tiny.run(
                        "parts", resumes: resumes,
                        observe: { if case .stepped = $0 { steps += 1 } },
                        shouldStop: { steps >= 17 })
                    break
                } catch is RunInterrupted {
                    stops += 1
                    resumes = true
                }
            }
            #expect(stops >= 3)
            #expect(try tiny.files("whole") == tiny.files("parts"))
        }
    }

    @Test func threadsDoNotMatter() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let before = Machine.threads
            defer { Machine.threads = before }
            Machine.threads = 1
            try tiny.run("one")
            Machine.threads = 2
            try tiny.run("two")
            #expect(try tiny.files("one") == tiny.files("two"))
        }
    }

    @Test func anotherRunIsNotOverwritten() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let files = try tiny.files("run")
            #expect(throws: (any Error).self) { try tiny.run("run") }
            #expect(throws: (any Error).self) {
                try tiny.run("run", set: ["seed=4"], resumes: true)
            }
            #expect(throws: (any Error).self) { try tiny.run("none", resumes: true) }
            #expect(try tiny.files("run") == files)
        }
    }

    @Test func changedInputsStopAResume() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            func interrupted(_ out: String) {
                var steps = 0
                #expect(throws: RunInterrupted.self) {
                    try tiny.run(
                        out, observe: { if case .stepped = $0 { steps += 1 } },
                        shouldStop: { steps >= 30 })
                }
            }
            func message(_ out: String) -> String {
                do {
                    try tiny.run(out, resumes: true)
                    return "no error"
                } catch { return "\(error)" }
            }
            interrupted("run")
            try TinyRun.writeDataset(folder + "/datasets/tiny") { $0.map { 3 - $0 } }
            #expect(message("run").contains("has changed since"))
            try TinyRun.writeDataset(folder + "/datasets/tiny")
            #expect(message("run") == "no error")
        }
    }

    @Test func oneProcessAtATime() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            var inner = ""
            try tiny.run(
                "run",
                observe: { event in
                    guard case .testOpened = event else { return }
                    do {
                        try tiny.run("run", resumes: true)
                    } catch { inner = "\(error)" }
                })
            #expect(inner.contains("another process is at work"))
        }
    }

    @Test func aCompleteRunIsNotReadAgain() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let first = try tiny.run("run")
            let before = FileManager.default.contents(atPath: folder + "/run/result.json")
            var opened = 0
            let second = try tiny.run(
                "run", resumes: true, observe: { if case .testOpened = $0 { opened += 1 } })
            #expect(opened == 0 && second.trainedAccuracy == first.trainedAccuracy)
            #expect(FileManager.default.contents(atPath: folder + "/run/result.json") == before)
        }
    }

    @Test func foreignFoldersAreLeftAlone() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            #expect(throws: (any Error).self) { try tiny.run("recipes") }
            let recipe = try String(contentsOfFile: tiny.path, encoding: .utf8)
            #expect(recipe == TinyRun.recipe)
        }
    }

    @Test func filesHoldNoPathAndNoClock() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("first")
            let start = folder + "/first/sparse_student/network.safetensors"
            try tiny.run("run", set: ["stages.student.start_from=\(start)"])
            for (name, data) in try tiny.files("run") where name != "recipe.yaml" {
                let text = String(decoding: data, as: UTF8.self)
                #expect(!text.contains(folder), "\(name) names the folder")
                #expect(!text.contains("seconds"), "\(name) holds a duration")
            }
        }
    }
}
