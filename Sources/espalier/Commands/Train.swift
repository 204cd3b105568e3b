import ArgumentParser
import EspalierTraining

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Carry out a recipe: train its stages one after the other.")

    @Argument(help: "The recipe, a YAML file.")
    var recipe: String

    @Option(
        name: .customLong("set"),
        help: "Replace a value: a dotted path, stages by name (stages.student.epochs=3).")
    var assignments: [String] = []

    @Option(help: "The run's folder. Default: runs/ and the recipe's file name.")
    var out: String?

    @Flag(help: "Go on with the run in the folder.")
    var resume = false

    @OptionGroup var machine: MachineOptions

    func run() throws {
        let folder = out ?? "runs/" + Train.stem(of: recipe)
        let progress = Progress()
        do {
            try machine.apply()
            let recipe = try Recipe.checked(path: recipe, assignments: assignments)
            let run = TrainingRun(recipe: recipe, folder: folder, resumes: resume)
            StopSignal.listen()
            let result = try run.run(
                observe: { progress.show($0) }, shouldStop: { StopSignal.isRaised })
            progress.end()
            print("\n\(result)")
            print()
            if let accuracy = result.teacherAccuracy {
                print("teacher_accuracy \(Train.text(accuracy))")
            }
            if let accuracy = result.trainedAccuracy {
                print("trained_accuracy \(Train.text(accuracy))")
            }
            if let sparsity = result.sparsity, let pruned = result.pruned,
                let prunable = result.prunable, prunable > 0
            {
                print(
                    "sparsity \(Train.text(sparsity)) (\(pruned) of \(prunable) prunable weights)")
            }
            Train.printDeployment(result)
            print("seconds \(Train.text(result.seconds, digits: 1))")
            print("everything is in \(folder)")
        } catch let error as RunInterrupted {
            progress.end()
            standardError("\(error)")
            throw ExitCode(128 + StopSignal.number)
        } catch {
            progress.end()
            throw fail(error)
        }
    }

    // What belongs to the exported file stands together.
    private static func printDeployment(_ result: RunResult) {
        guard let accuracy = result.deployedAccuracy, let bytes = result.studentBytes else {
            return
        }
        print("deployed_accuracy \(text(accuracy))")
        print("predictions_equal \(result.predictionsEqual == true)")
        print("student_bytes \(bytes) (teacher_bytes \(result.teacherBytes ?? 0))")
        if let latency = result.latencyMs {
            let (dense, own) = (latency.denseFloat, latency.deployed)
            print(
                "latency_ms batch 1: \(text(own.batch1)) (dense float \(text(dense.batch1))), "
                    + "batch 64: \(text(own.batch64)) (\(text(dense.batch64))), "
                    + "\(latency.threads) threads")
        }
    }

    private static func stem(of path: String) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return name.lastIndex(of: ".").map { String(name[..<$0]) } ?? name
    }

    private static func text(_ value: Double, digits: Int = 4) -> String {
        let scale = Array(repeating: 10.0, count: digits).reduce(1, *)
        return "\((value * scale).rounded() / scale)"
    }
}

/// Remembers that the user asked to stop: Ctrl-C or a termination signal.
enum StopSignal {
    // Written by the handler, one byte; read between steps.
    nonisolated(unsafe) private static var raised: sig_atomic_t = 0

    static var isRaised: Bool { unsafe raised != 0 }

    /// The signal that asked, 0 for none.
    static var number: Int32 { unsafe Int32(raised) }

    static func listen() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                // A second one ends the program at once.
                if unsafe StopSignal.raised != 0 { _exit(128 + number) }
                unsafe StopSignal.raised = sig_atomic_t(number)
            }
        }
    }
}
