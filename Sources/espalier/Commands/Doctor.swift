import ArgumentParser
import EspalierTraining

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what this machine has, and what was chosen for it.")

    func run() { print(Machine.report) }
}
