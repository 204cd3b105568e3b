import ArgumentParser
import EspalierTraining

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

@main
struct Espalier: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "espalier",
        abstract: "Train small sparse networks for CPUs from larger teachers.",
        version: Version.current,
        subcommands: [
            Train.self, Evaluate.self, Export.self, Convert.self, Run.self, Inspect.self,
            Bench.self,
            PlanCommand.self,
            Verify.self, RecipeCommand.self, Doctor.self,
        ])
}

/// Prints an error as one message and ends the program.
func fail(_ error: any Error, code: Int32 = 1) -> ExitCode {
    let text = "\(error)"
    // Problems with recipes already say "error" beside their place.
    standardError(error is RecipeError ? text : "error: \(text)")
    return ExitCode(code)
}

/// Prints a line to standard error.
func standardError(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
