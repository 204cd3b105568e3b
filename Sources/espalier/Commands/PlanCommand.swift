import ArgumentParser
import EspalierTraining

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Show what the runtime does with a .espalier file, step by step.")

    @Argument(help: "The network, a .espalier file.")
    var file: String

    @Option(help: "The batch to plan for.")
    var batch = 1

    @Flag(help: "Run the steps many times on one thread, and show the median of each.")
    var time = false

    func validate() throws {
        if !(1...1 << 20).contains(batch) {
            throw ValidationError("--batch must be at least 1, at most 1048576")
        }
    }

    func run() throws {
        do {
            print(try FilePlan(file: file, batch: batch, calls: time ? 1000 : nil))
        } catch {
            throw fail(error)
        }
    }
}
