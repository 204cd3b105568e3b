import ArgumentParser
import EspalierTraining

/// What of the machine takes part, and how it is used. Results do not depend on it.
struct MachineOptions: ParsableArguments {
    @Option(help: "Threads to use. Default: all cores; the results are the same for any number.")
    var threads: Int?

    @Option(help: "A cost table that `espalier doctor --tune` wrote: kernels are chosen by it.")
    var costs: String?

    func apply() throws {
        if let threads { Machine.threads = threads }
        if let costs { try Machine.useCosts(costs) }
    }

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads must be at least 1") }
    }
}
