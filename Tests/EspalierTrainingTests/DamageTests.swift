import EspalierCodec
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
            let path = folder + "/run/student/network.safetensors"
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

    /// Metadata of another program or a fault, under a checksum that is right.
    @Test func hostileMetadata() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            try tiny.run("run")
            let network = folder + "/run/student/network.safetensors"
            let last = folder + "/run/student/last.safetensors"
            func refuses(_ path: String, _ key: String, _ old: String, _ new: String) throws -> Bool
            {
                let file = try SafeTensors(contentsOf: path)
                var writer = SafeTensors.Writer()
                writer.metadata = file.metadata
                let text = try #require(file.metadata[key])
                let changed = text.replacing(try Regex(old), with: new)
                #expect(changed != text, "\(old) is not in \(text)")
                writer.metadata[key] = changed
                for name in file.entries.keys.sorted() {
                    if name.hasSuffix(".mask") {
                        writer.add(name, words: try file.words(name))
                    } else {
                        writer.add(name, try file.tensor(name))
                    }
                }
                let copy = folder + "/hostile.safetensors"
                try writer.write(to: copy)
                return message { _ = try NetworkFile(contentsOf: copy) } != "no error"
            }
            for (old, new) in [
                ("\"channels\":.4.", "\"channels\":[-1]"),
                ("\"channels\":.4.", "\"channels\":[3000000000]"),
                ("\"channels\":.4.", "\"channels\":[1000000]"),
                ("\"hidden\":16", "\"hidden\":1000000000"), ("\"hidden\":16", "\"hidden\":-5"),
                ("\"input\":.6,6,1.", "\"input\":[16777216,16777216,16777216]"),
                ("\"input\":.6,6,1.", "\"input\":[-6,6,1]"),
                ("\"classes\":4", "\"classes\":0"),
                ("\"largestPixel\":[0-9]+", "\"largestPixel\":0"),
                ("\"steps\":[0-9]+", "\"steps\":9223372036854775807"),
                ("\"dropout\":[0-9.]+", "\"dropout\":2"),
            ] {
                #expect(try refuses(network, "espalier", old, new), "\(new)")
            }
            // A position that the recipe does not have is refused by a resume.
            let good = try #require(FileManager.default.contents(atPath: last))
            try FileManager.default.removeItem(atPath: folder + "/run/result.json")
            for (old, new) in [
                ("\"epoch\":[0-9]+,\"examples", "\"epoch\":-3,\"examples"),
                ("\"stepInEpoch\":[0-9]+", "\"stepInEpoch\":-5"),
                ("\"step\":[0-9]+", "\"step\":9223372036854775807"),
            ] {
                let text = try #require(SafeTensors(contentsOf: last).metadata["state"])
                let state = text.replacing("\"isComplete\":true", with: "\"isComplete\":false")
                    .replacing(try Regex(old), with: new)
                let file = try SafeTensors(contentsOf: last)
                var writer = SafeTensors.Writer()
                writer.metadata = file.metadata
                writer.metadata["state"] = state
                for name in file.entries.keys.sorted() {
                    if name.hasSuffix(".mask") {
                        writer.add(name, words: try file.words(name))
                    } else {
                        writer.add(name, try file.tensor(name))
                    }
                }
                try writer.write(to: last)
                let problem = message { try tiny.run("run", resumes: true) }
                #expect(problem.contains("position does not fit"), "\(new): \(problem)")
                try good.write(to: URL(fileURLWithPath: last))
            }
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
            _ = try NetworkFile(contentsOf: folder + "/run/task_teacher/network.safetensors")
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
