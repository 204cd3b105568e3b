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
        case .writing(let path, let progress) where path.hasSuffix(".espalier"):
            "export: \(progress)".components(separatedBy: "(")[0]
        case .exported: "exported"
        case .compared: "compared"
        case .pruned: "prune update"
        case .calibrated: "calibration"
        case .quantized: "quantized"
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
        try await expectSameBytes(set: TinyRun.quantized) { kinds in
            // Two random moments of each kind, and the first write.
            let counts = kinds.reduce(into: [:]) { $0[$1, default: 0] += 1 }
            var moments: [Moment] = []
            for (index, (kind, count)) in counts.sorted(by: { $0.key < $1.key }).enumerated()
            where kind != "note" {
                let drawn = RandomStream(seed: 11).child(UInt64(index)).integers(2, below: count)
                moments += Set(drawn).sorted().map { Moment(kind: kind, number: $0) }
            }
            moments.append(Moment(kind: "write: in the middle", number: 0))
            let kinds = Set(moments.map(\.kind))
            #expect(kinds.isSuperset(of: ["prune update", "exported", "compared"]))
            #expect(kinds.count { $0.hasPrefix("export: ") } == 4)
            return moments
        }
    }

    /// Before, in and after the calibration, and in every part of the checkpoint right behind it.
    @Test(arguments: [TinyRun.quantized, TinyRun.quantizedAtTheEnd])
    func killedWhereTheNetworkIsQuantized(_ set: [String]) async throws {
        try await expectSameBytes(set: set) { kinds in
            let first = try #require(kinds.firstIndex(of: "calibration"))
            let last = try #require(kinds.firstIndex(of: "quantized"))
            let writes = kinds[first...last].filter { $0.hasPrefix("write") }
            #expect(Set(writes).count == 4 && kinds[first...last].contains("calibration"))
            let before = try #require(kinds[..<first].lastIndex(of: "step"))
            let after = kinds[last...].firstIndex(of: "step") ?? kinds.indices.last ?? last
            return (before...after).map { index in
                Moment(
                    kind: kinds[index],
                    number: kinds[..<index].count { $0 == kinds[index] })
            }
        }
    }

    /// Compares runs that are killed at moments of a whole one, and resumed, with it.
    private func expectSameBytes(
        set: [String], killedAt choose: ([String]) throws -> [Moment]
    ) async throws {
        let folder = NSTemporaryDirectory() + "espalier-kill-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let tiny = try TinyRun(in: folder)
        var kinds: [String] = []
        try tiny.run("whole", set: set, observe: { kinds.append(Self.kind($0)) })
        let expected = try tiny.files("whole")
        #expect(expected.count >= 12 && expected["student/network.espalier"] != nil)
        for (index, moment) in try choose(kinds).enumerated() {
            let out = "killed\(index)"
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [
                    folder = folder as String, moment = moment as Moment, out = out as String,
                    set = set as [String]
                ] in
                var seen = 0
                let tiny = try TinyRun(in: folder)
                try tiny.run(
                    out, set: set,
                    observe: { event in
                        guard Self.kind(event) == moment.kind else { return }
                        if seen == moment.number { kill(getpid(), SIGKILL) }
                        seen += 1
                    })
            }
            try tiny.run(
                out, set: set,
                resumes: FileManager.default.fileExists(atPath: "\(folder)/\(out)/run.json"))
            let got = try tiny.files(out).filter { !$0.key.hasSuffix(".part") }
            #expect(got.keys.sorted() == expected.keys.sorted(), "\(moment)")
            for (name, data) in expected { #expect(got[name] == data, "\(name) after \(moment)") }
        }
    }

    @Test(arguments: [[], TinyRun.quantized, TinyRun.quantizedAtTheEnd])
    func askedToStop(_ set: [String]) throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("whole", set: set)
            var steps = 0
            var stops = 0
            var resumes = false
            // Stops after every 17th step and goes on, until the end is reached.
            while true {
                steps = 0
                do {
                    try tiny.run(
                        "parts", set: set, resumes: resumes,
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
            try tiny.run("one", set: TinyRun.quantized)
            Machine.threads = 2
            try tiny.run("two", set: TinyRun.quantized)
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
