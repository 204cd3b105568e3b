import ArgumentParser
import EspalierTraining

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a network on labelled data.")

    @Argument(help: "A .espalier file, or network.safetensors or last.safetensors of a stage.")
    var file: String

    @Option(help: "A data set's name, or a folder with IDX files.")
    var data: String

    @Option(help: "The part to read: train, dev or test.")
    var part: String = "test"

    @Flag(help: "Also compare the training tape's own forward with the runtime, layer by layer.")
    var layers = false

    @OptionGroup var machine: MachineOptions

    func run() throws {
        do {
            try machine.apply()
            let report = try NetworkEvaluation(
                file: file, data: data, part: part, comparesLayers: layers)
            print(report)
        } catch {
            throw fail(error)
        }
    }
}
