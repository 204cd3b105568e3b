public import ArgumentParser
import EspalierRuntime
public import EspalierTraining

extension FileExport.Format: ExpressibleByArgument {}

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a trained network as a file to be used.")

    @Argument(help: "A run's folder, a stage's folder, network.safetensors, or a .espalier file.")
    var source: String

    @Option(help: "The stage of a run. Default: the one that its recipe exports, else the last.")
    var stage: String?

    @Option(
        help:
            "espalier, which the runtime runs; for other programs safetensors, which is floats, or nnc (ISO/IEC 15938-17)."
    )
    var format = FileExport.Format.espalier

    @Option(name: .shortAndLong, help: "The file to write.")
    var out: String

    func run() throws {
        do {
            print(try FileExport(source, stage: stage, format: format, to: out))
        } catch {
            throw fail(error)
        }
    }
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a .espalier file on inputs: a line for each example.")

    @Argument(help: "The network, a .espalier file.")
    var file: String

    @Option(help: "Images in the IDX format, or raw floats in a file that ends in .f32.")
    var input: String

    @Flag(help: "Print all outputs, not the largest one's index alone.")
    var outputs = false

    @Flag(help: "Map the network into memory. Only for files that are replaced as a whole.")
    var map = false

    @OptionGroup var machine: MachineOptions

    func run() throws {
        do {
            try machine.apply()
            let result = try FileRun(file: file, input: input, isMapped: map)
            for row in result.rows {
                print(row.best, terminator: outputs ? "" : "\n")
                if outputs { print(row.outputs.map { "\t\($0)" }.joined()) }
            }
        } catch {
            throw fail(error)
        }
    }
}

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a file holds: layers, types, shapes, bytes.")

    @Argument(help: "A .espalier or .safetensors file.")
    var file: String

    func run() throws {
        do {
            print(try FileInspection(file))
        } catch {
            throw fail(error)
        }
    }
}

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how fast a .espalier file runs on this machine.")

    enum Comparison: String, ExpressibleByArgument, CaseIterable {
        case dense, nothing
    }

    @Argument(help: "The network, a .espalier file.")
    var file: String

    @Option(help: "Measure beside it, in turn: the same network in dense floats, or nothing.")
    var compare = Comparison.nothing

    @Option(parsing: .upToNextOption, help: "Batch sizes.")
    var batch: [Int] = [1, 64]

    @Option(help: "Calls that the median is taken of.")
    var calls = 200

    @OptionGroup var machine: MachineOptions

    func validate() throws {
        if batch.isEmpty || batch.contains(where: { $0 < 1 || $0 > 1 << 20 }) {
            throw ValidationError("--batch must be at least 1, at most 1048576")
        }
        if calls < 1 { throw ValidationError("--calls must be at least 1") }
    }

    func run() throws {
        do {
            try machine.apply()
            print(
                try FileBench(
                    file: file, batches: batch, calls: calls, comparesDense: compare == .dense))
        } catch {
            throw fail(error)
        }
    }
}

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Read a .espalier file as a whole, and check every part of it.")

    @Argument(help: "The file.")
    var file: String

    func run() throws {
        do {
            print(try FileVerification(file))
        } catch {
            throw fail(error)
        }
    }
}
