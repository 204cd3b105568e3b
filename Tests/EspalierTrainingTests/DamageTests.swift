import EspalierInterchange
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

/// Faults from outside: one clear error each, nothing lost.
@Suite struct DamageTests {
    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "no error"
        } catch {
            return "\(error)"
        }
    }

    @Test func everyTruncationAndFlipOfANetworkIsFound() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run", set: ["models.network.hidden=4", "models.network.channels=[4]"])
            let path = folder + "/run/student/best.safetensors"
            let good = try #require(FileManager.default.contents(atPath: path))
            let damaged = folder + "/damaged.safetensors"
            func refuses(_ data: Data) throws -> Bool {
                try data.write(to: URL(fileURLWithPath: damaged))
                do {
                    _ = try NetworkFile(contentsOf: damaged)
                    return false
                } catch {
                    return !error.problem.isEmpty
                }
            }
            #expect(try !refuses(good))
            for length in stride(from: 0, to: good.count, by: 7) {
                #expect(try refuses(good.prefix(length)), "\(length) bytes")
            }
            for bit in stride(from: 0, to: good.count * 8, by: 5) {
                var data = good
                data[bit / 8] ^= 1 << (bit % 8)
                #expect(try refuses(data), "bit \(bit)")
            }
        }
    }

    @Test func damagedCheckpointStopsAResume() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            var steps = 0
            #expect(throws: RunInterrupted.self) {
                try tiny.run(
                    "run", observe: { if case .stepped = $0 { steps += 1 } },
                    shouldStop: { steps >= 20 })
            }
            let path = folder + "/run/sparse_student/last.safetensors"
            var data = try #require(FileManager.default.contents(atPath: path))
            let good = data
            data[data.count / 2] ^= 16
            try data.write(to: URL(fileURLWithPath: path))
            let text = message { try tiny.run("run", resumes: true) }
            #expect(text.contains("sparse_student/last.safetensors") && text.contains("checksum"))
            // Nothing was touched: with the good file back, the run goes on.
            try good.write(to: URL(fileURLWithPath: path))
            try tiny.run("run", resumes: true)
        }
    }

    @Test func labelOutOfRange() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try TinyRun.writeDataset(folder + "/datasets/tiny") { labels in
                var labels = labels
                labels[7] = 9
                return labels
            }
            let text = message { try tiny.run("run") }
            #expect(text.contains("train-labels-idx1-ubyte"))
            #expect(text.contains("label 7 (counted from 0) is 9; labels from 0 to 3 expected"))
            #expect(text.contains("tiny.yaml:5:"))
        }
    }

    @Test func missingFiles() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let labels = folder + "/datasets/tiny/train-labels-idx1-ubyte"
            try FileManager.default.removeItem(atPath: labels)
            #expect(message { try tiny.run("run") }.contains("no file train-labels-idx1-ubyte"))
            #expect(
                message { _ = try Recipe(path: folder + "/none.yaml") }
                    .contains("none.yaml: cannot open it: No such file or directory"))
            #expect(
                message { _ = try NetworkFile(contentsOf: folder + "/none.safetensors") }
                    .contains("none.safetensors: cannot open it"))
        }
    }

    @Test func lossThatIsNotANumber() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let set = [
                "stages.student.optimizer.sgd.rate=1e3", "stages.student.clip.norm=1e30",
                "stages.student.warmup=0", "stages.student.optimizer.sgd.weight_decay=1",
                "stages.student.epochs=40", "stages.student.early_stop.patience=40",
            ]
            let text = message { try tiny.run("run", set: set) }
            #expect(text.contains("stage 'student'") && text.contains("Lower `rate`"), "\(text)")
            // What was saved before is whole.
            let path = folder + "/run/student/last.safetensors"
            if FileManager.default.fileExists(atPath: path) {
                _ = try NetworkFile(contentsOf: path)
            }
            _ = try NetworkFile(contentsOf: folder + "/run/task_teacher/best.safetensors")
        }
    }

    /// A file system that takes no more: here a limit on the size of files.
    @Test func fullDisk() async throws {
        let folder = NSTemporaryDirectory() + "espalier-full-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let tiny = try TinyRun(in: folder)
        try tiny.run("whole")
        let result = await #expect(
            processExitsWith: .exitCode(7), observing: [\.standardErrorContent]
        ) { [folder = folder as String] in
            signal(SIGXFSZ, SIG_IGN)
            let tiny = try TinyRun(in: folder)
            var steps = 0
            do {
                try tiny.run(
                    "full",
                    observe: { event in
                        if case .stepped = event { steps += 1 }
                        guard steps == 20 else { return }
                        var limit = rlimit(rlim_cur: 6000, rlim_max: 6000)
                        unsafe setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                    })
            } catch {
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                exit(7)
            }
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("cannot write it") || text.contains("cannot be written"), "\(text)")
        // With room again the run goes on to the same end.
        try tiny.run("full", resumes: true)
        #expect(try tiny.files("full") == tiny.files("whole"))
    }
}
