public import EspalierCodec
import EspalierKernels
import EspalierTensors
import Foundation

// What kernels cost here: plans choose by it between dense and sparse ones. Results do not depend on it.
extension Machine {
    private struct CostFile: Codable {
        var version = 1
        var isa: String
        var costs: CostTable
    }

    /// Measures a cost table for this machine and the instruction set in use, in a few seconds, and writes it.
    ///
    /// - Throws: `FileError` where it cannot be written.
    public static func measureCosts(to path: String) throws {
        let file = CostFile(isa: ISA.current.rawValue, costs: .measured())
        try FileAccess.writeAtomically(bytes(file), to: path)
    }

    /// Makes plans by a table that was measured before.
    ///
    /// - Throws: `FileError` where it is missing, damaged, or for another instruction set.
    public static func useCosts(_ path: String) throws(FileError) {
        let bytes = try FileAccess.read(path)
        guard let file = try? JSONDecoder().decode(CostFile.self, from: Data(bytes)),
            file.version == 1
        else {
            throw FileError(path: path, "it is no cost table; make one with espalier doctor --tune")
        }
        guard file.isa == ISA.current.rawValue else {
            throw FileError(
                path: path,
                "it is for the instruction set \(file.isa), in use is \(ISA.current.rawValue)")
        }
        CostTable.current = file.costs
    }

    /// The table in use, as `useCosts` reads it.
    static func costs() throws -> [UInt8] {
        try bytes(CostFile(isa: ISA.current.rawValue, costs: .current))
    }

    private static func bytes(_ file: CostFile) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return Array(try encoder.encode(file)) + [UInt8(ascii: "\n")]
    }
}
