import ArgumentParser
import EspalierTraining

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what this machine has, and what was chosen for it.")

    @Flag(help: "Measure what kernels cost here, and write it to a file for --costs.")
    var tune = false

    @Option(name: .shortAndLong, help: "The file that --tune writes.")
    var out = "costs.json"

    func run() throws {
        guard tune else { return print(Machine.report) }
        do {
            try Machine.measureCosts(to: out)
            print("measured; use it with --costs \(out)")
        } catch {
            throw fail(error)
        }
    }
}
