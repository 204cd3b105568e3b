import EspalierCodec
import EspalierEngine
import EspalierTensors
import Foundation

/// The folder of a run:
///
///     recipe.yaml      as it was read
///     run.json         seed, version, instruction set, fingerprint of the recipe
///     costs.json       the cost table that plans are made by, also after a resume
///     lock             held while a process is at work here
///     log.jsonl        one JSON line an event; no clock, no path
///     STAGE/last.safetensors    where the stage stands; a resume goes on from here
///     STAGE/network.safetensors the network that the stage leaves
///     STAGE/network.espalier    the same as it ships, of the stage that the recipe exports
///     result.json      the closing table
package struct RunFolder {
    let path: String

    package init(path: String) { self.path = path }

    var recipe: String { path + "/recipe.yaml" }
    var settings: String { path + "/run.json" }
    var costs: String { path + "/costs.json" }
    var log: String { path + "/log.jsonl" }
    var result: String { path + "/result.json" }

    package func last(_ stage: String) -> String { "\(path)/\(stage)/last.safetensors" }
    package func network(_ stage: String) -> String { "\(path)/\(stage)/network.safetensors" }

    /// What a run was started with.
    struct Settings: Codable, Equatable {
        var version: String
        var recipe: String
        var seed: UInt64
        var isa: String
        var blasCore: String
        /// Checksums of the data sets' images and labels, by name.
        var data: [String: UInt32]
    }

    /// Makes the folder for a new run, or finds that of a run to go on with.
    ///
    /// - Returns: what keeps other processes out of the folder while the run goes on.
    /// - Throws: `FileError` where a new run would overwrite something, or a resumed one is another recipe's.
    func prepare(
        _ recipe: Recipe, source: [UInt8], data: [String: UInt32], resumes: Bool
    ) throws -> FileAccess.Lock {
        let now = Settings(
            version: Version.current, recipe: recipe.fingerprint, seed: recipe.seed,
            isa: ISA.current.rawValue, blasCore: BLAS.core, data: data)
        guard !path.isEmpty else { throw FileError(path: "--out", "a folder's name is expected") }
        guard FileAccess.exists(settings) else {
            if resumes {
                throw FileError(path: path, "there is no run to resume here; leave out --resume")
            }
            let present = FileAccess.names(in: path).filter {
                $0 != "lock" && !$0.hasSuffix(".part")
            }
            guard present.isEmpty else {
                throw FileError(
                    path: path,
                    "the folder holds '\(present[0])' and is no run; give an empty or new one with --out"
                )
            }
            try FileAccess.makeFolder(path)
            let lock = try FileAccess.Lock(path + "/lock")
            // First what makes the folder a run: whatever happens next, it can be resumed.
            try FileAccess.writeAtomically(Array((NetworkFile.json(now) + "\n").utf8), to: settings)
            try fill(recipe, source)
            return lock
        }
        guard resumes else {
            throw FileError(
                path: path, "a run is here already; go on with --resume, or give another --out")
        }
        let lock = try FileAccess.Lock(path + "/lock")
        let bytes = try FileAccess.read(settings)
        guard let before = try? JSONDecoder().decode(Settings.self, from: Data(bytes)) else {
            throw FileError(path: settings, "it cannot be read; the run cannot be resumed")
        }
        guard before.recipe == now.recipe else {
            throw FileError(
                path: path,
                "the run here was started with another recipe or other --set; "
                    + "resume it with those, or give another --out")
        }
        for (name, checksum) in data where before.data[name] != checksum {
            throw FileError(
                path: path,
                "the data '\(name)' has changed since the run began; bring it back, or begin anew with "
                    + "another --out")
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
        try fill(recipe, source)
        return lock
    }

    private func fill(_ recipe: Recipe, _ source: [UInt8]) throws {
        if !FileAccess.exists(self.recipe) {
            try FileAccess.writeAtomically(source, to: self.recipe)
        }
        if FileAccess.exists(costs) {
            try Machine.useCosts(costs)
        } else {
            try FileAccess.writeAtomically(Machine.costs(), to: costs)
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
