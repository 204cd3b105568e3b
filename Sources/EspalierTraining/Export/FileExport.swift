import EspalierCodec
import EspalierGraph
import EspalierInterchange
import EspalierNN
import EspalierTensors
import Foundation

/// A trained network written in another format.
public struct FileExport: CustomStringConvertible {
    /// What can be written.
    public enum Format: String, Sendable, CaseIterable {
        /// The file that the runtime runs.
        case espalier
        /// Floats under their layers' names, masked weights as zeros, for other programs.
        case safetensors
        /// Floats quantized and integers as they are in the format of ISO/IEC 15938-17, for other programs.
        case nnc
    }

    public let description: String

    /// Writes the network of a run, a network file or a `.espalier` file as a file.
    ///
    /// - Parameters:
    ///   - source: A run's folder, a stage's folder, `network.safetensors`, or `.espalier`.
    ///   - stage: Which stage of a run; by default the one that its recipe exports, else the last.
    ///   - path: The file to write; an existing one is replaced in one step.
    /// - Throws: `FileError` where something is missing, damaged or cannot be written.
    public init(_ source: String, stage: String?, format: Format, to path: String) throws {
        let place = try FileExport.place(source, stage)
        let graph: Graph
        let bytes: [UInt8]
        if place.hasSuffix(".espalier") {
            let file = try FileExport.read(place)
            graph = file.graph
            bytes = file.bytes
        } else {
            let saved = try NetworkFile(contentsOf: place)
            do {
                graph = try saved.network.graph()
                bytes = try DeployedNetwork.bytes(graph, saved.description)
            } catch {
                throw FileError(path: place, "it cannot be exported: \(error)")
            }
        }
        let result: [UInt8]
        switch format {
        case .espalier: result = bytes
        case .safetensors: result = FileExport.safeTensors(graph)
        case .nnc:
            do {
                result = try FileExport.nnc(graph)
            } catch {
                throw FileError(path: place, "it cannot be exported: \(error)")
            }
        }
        try FileAccess.writeAtomically(result, to: path)
        description = "\(place) -> \(path), \(result.count) bytes"
    }

    private static func read(_ path: String) throws(FileError) -> (graph: Graph, bytes: [UInt8]) {
        let bytes = try FileAccess.read(path)
        do throws(ContainerError) {
            return (try GraphFile(bytes).graph(), bytes)
        } catch {
            throw FileError(path: path, "\(error)")
        }
    }

    // Integer weights as the values that they stand for.
    private static func safeTensors(_ graph: Graph) -> [UInt8] {
        var writer = SafeTensors.Writer()
        writer.metadata["format"] = "espalier-dequantized"
        let floats = graph.inFloats
        for (name, index) in constants(of: floats) {
            guard case .floats(let tensor) = floats.constants[index].value else { continue }
            writer.add(name, tensor)
        }
        return writer.encoded()
    }

    // Integers stay what they are, beside their scales. These are so fine that all floats of a usual size are exact.
    private static func nnc(_ graph: Graph) throws -> [UInt8] {
        var writer = NNCWriter(baseQP: -100)
        for (name, index) in constants(of: graph) {
            switch graph.constants[index].value {
            case .floats(let tensor): try writer.add(name, tensor)
            case .sums(let sums): try writer.add(name, integers: IndexTensor(sums))
            case .codes(let tensor):
                let codes = IndexTensor(tensor.codes.map(Int32.init), shape: tensor.shape)
                try writer.add(name, integers: codes, format: .int8)
                let parameters = tensor.parameters
                let scales = Tensor(parameters.scales, shape: [parameters.scales.count])
                do throws(NNCError) {
                    try writer.add(name + ".scale", exact: scales)
                } catch {
                    // Scales of very different sizes: the finest step there is.
                    try writer.add(name + ".scale", scales, qp: -228)
                }
                if parameters.zeroPoints.contains(where: { $0 != 0 }) {
                    try writer.add(
                        name + ".zero_point", integers: IndexTensor(parameters.zeroPoints))
                }
            }
        }
        return try writer.encoded()
    }

    // The constants of a graph under names of their own: nothing says that the layers of a file have different names.
    private static func constants(of graph: Graph) -> [(name: String, index: Int)] {
        var taken: Set<String> = []
        var result: [(name: String, index: Int)] = []
        for node in graph.nodes {
            for (position, operand) in node.operands.enumerated() {
                guard case .constant(let index) = operand else { continue }
                let own = "\(node.name).\(position < 2 ? "weight" : "bias")"
                var (name, number) = (own, 1)
                while !taken.insert(name).inserted {
                    number += 1
                    name = "\(own).\(number)"
                }
                result.append((name, index))
            }
        }
        return result
    }

    // The network file that people mean.
    private static func place(_ source: String, _ stage: String?) throws -> String {
        guard FileAccess.isFolder(source) else {
            guard stage == nil else {
                throw FileError(path: source, "--stage is about a run's folder")
            }
            return source
        }
        let own = source + "/network.safetensors"
        if stage == nil, FileAccess.exists(own) { return own }
        let folder = RunFolder(path: source)
        guard FileAccess.exists(folder.recipe) else {
            throw FileError(path: source, "it is neither a run's folder nor that of a stage")
        }
        // The recipe in a run's folder names its data from where it was read; only its stages matter here.
        let recipe = try Recipe(path: folder.recipe)
        let names = recipe.stages.map(\.name.value)
        guard let name = stage ?? recipe.export?.stage.value ?? names.last, names.contains(name)
        else {
            throw FileError(
                path: source,
                "it has no stage '\(stage ?? "")'; " + suggestion(for: stage ?? "", among: names))
        }
        guard FileAccess.exists(folder.network(name)) else {
            throw FileError(path: folder.network(name), "the stage has not left its network yet")
        }
        return folder.network(name)
    }
}
