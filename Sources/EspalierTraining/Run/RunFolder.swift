import EspalierEngine
import EspalierInterchange
import EspalierTensors
import Foundation

/// The folder of a run:
///
///     recipe.yaml      as it was read
///     run.json         seed, `--set`, version, instruction set
///     log.jsonl        one JSON line an event; no clock, no path
///     STAGE/last.safetensors    where the stage stands; a resume goes on from here
///     STAGE/best.safetensors    the network that the stage leaves
///     result.json      the closing table
package struct RunFolder {
    let path: String

    package init(path: String) { self.path = path }

    var recipe: String { path + "/recipe.yaml" }
    var settings: String { path + "/run.json" }
    var log: String { path + "/log.jsonl" }
    var result: String { path + "/result.json" }

    package func last(_ stage: String) -> String { "\(path)/\(stage)/last.safetensors" }
    package func network(_ stage: String) -> String { "\(path)/\(stage)/best.safetensors" }

    /// What a run was started with.
    struct Settings: Codable, Equatable {
        var version: String
        var recipe: String
        var seed: UInt64
        var assignments: [String]
        var isa: String
        var blasCore: String
    }

    /// Makes the folder for a new run, or finds that of a run to go on with.
    ///
    /// - Throws: `FileError` where a new run would overwrite another, or a resumed one is another recipe's.
    func prepare(_ recipe: Recipe, source: [UInt8], assignments: [String], resumes: Bool) throws {
        let now = Settings(
            version: Version.current, recipe: recipe.fingerprint, seed: recipe.seed,
            assignments: assignments, isa: ISA.current.rawValue, blasCore: BLAS.core)
        guard FileAccess.exists(settings) else {
            if resumes {
                throw FileError(path: path, "there is no run to resume here; leave out --resume")
            }
            if FileAccess.exists(log) {
                throw FileError(
                    path: path, "the folder holds a run without run.json; give another --out")
            }
            for stage in recipe.stages { try FileAccess.makeFolder("\(path)/\(stage.name.value)") }
            try FileAccess.writeAtomically(source, to: self.recipe)
            try FileAccess.writeAtomically(Array((NetworkFile.json(now) + "\n").utf8), to: settings)
            return
        }
        guard resumes else {
            throw FileError(
                path: path, "a run is here already; go on with --resume, or give another --out")
        }
        let bytes = try FileAccess.read(settings)
        guard let before = try? JSONDecoder().decode(Settings.self, from: Data(bytes)) else {
            throw FileError(path: settings, "it cannot be read; the run cannot be resumed")
        }
        guard before.recipe == now.recipe else {
            throw FileError(
                path: path,
                "the run here was started with another recipe or other --set "
                    + "(\(before.assignments.joined(separator: " "))); "
                    + "resume it with those, or give another --out")
        }
        guard before.version == now.version, before.isa == now.isa, before.blasCore == now.blasCore
        else {
            throw FileError(
                path: path,
                "the run was started by version \(before.version) on \(before.isa), OpenBLAS core "
                    + "\(before.blasCore); here it would go on with version \(now.version) on "
                    + "\(now.isa), core \(now.blasCore), and end in other bytes. "
                    + "Set ESPALIER_ISA and ESPALIER_BLAS_CORE to those, or begin anew with another --out"
            )
        }
        for stage in recipe.stages { try FileAccess.makeFolder("\(path)/\(stage.name.value)") }
    }
}

/// The version of the package.
public enum Version {
    /// Written into runs and files.
    public static let current = "0.1.0"
}

extension Recipe {
    /// A fingerprint of what the recipe says (FNV-1a of its canonical form).
    var fingerprint: String {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in canonical.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return String(hash, radix: 16)
    }
}
