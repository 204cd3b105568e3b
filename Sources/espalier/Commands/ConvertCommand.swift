import ArgumentParser
import EspalierInterchange
import EspalierTraining

struct Convert: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the tensors of a file in another format: safetensors to NNC, and back.")

    @Argument(help: "The tensors, a file that ends in .nnc or .safetensors.")
    var source: String

    @Option(
        name: [.customShort("o"), .customLong("to")], help: "The file to write, of the other kind.")
    var target: String

    @Option(
        parsing: .unconditional,
        help: "Of NNC: the quantization parameter of weights; four more double the step.")
    var qp = -38

    @Option(parsing: .unconditional, help: "Of NNC: that of vectors.")
    var vectorQp = -75

    @Option(help: "Of NNC: how much a bit counts against errors; above 0 is smaller, and slower.")
    var lambda = 0.0

    @Option(help: "Of NNC: 0 goes by rows; 1 to 4 by blocks of 8 to 64, which threads can share.")
    var scanOrder = 0

    @Flag(help: "Of NNC: a plain quantizer in place of the trellis.")
    var uniform = false

    @OptionGroup var machine: MachineOptions

    func validate() throws {
        if !(-128...127).contains(qp) || !(-128...127).contains(vectorQp) {
            throw ValidationError("quantization parameters are from -128 to 127")
        }
        if !(0...4).contains(scanOrder) { throw ValidationError("--scan-order is from 0 to 4") }
        if !(lambda >= 0 && lambda < 1e6) { throw ValidationError("--lambda must be at least 0") }
    }

    func run() throws {
        var options = NNCWriter.Options()
        (options.qp, options.vectorQP) = (qp, vectorQp)
        (options.lambda, options.scanOrder) = (lambda, scanOrder)
        options.isDependent = !uniform
        do {
            try machine.apply()
            print(try FileConversion(source, to: target, options: options))
        } catch {
            throw fail(error)
        }
    }
}
