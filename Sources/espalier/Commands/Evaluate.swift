import ArgumentParser
import EspalierTraining

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a network on labelled data.")

    @Argument(help: "The network: network.safetensors or last.safetensors of a stage.")
    var file: String

    @Option(help: "A data set's name, or a folder with IDX files.")
    var data: String

    @Option(help: "The part to read: train, dev or test.")
    var part: String = "test"

    @OptionGroup var threads: ThreadOptions

    func run() throws {
        threads.apply()
        do {
            let report = try NetworkEvaluation(file: file, data: data, part: part)
            print(report)
        } catch {
            throw fail(error)
        }
    }
}
