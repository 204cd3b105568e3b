import EspalierCodec
import EspalierData
import EspalierNN
import EspalierTensors

/// The network that a stage begins with, and where it comes from.
struct StageStart {
    let network: Network
    let ancestor: NetworkFile.Ancestor?
    /// Optimizer steps that the ancestor has behind it.
    let steps: Int
    var taken: [String] = []
    var new: [String] = []
    var unused: [String] = []

    /// Makes the network of a stage.
    ///
    /// - Throws: `RecipeError` where the start does not fit, `FileError` where it cannot be read.
    init(_ stage: Recipe.Stage, _ recipe: Recipe, _ data: TaskData, _ folder: RunFolder) throws {
        func fail(_ message: String, at position: RecipePosition) -> RecipeError {
            RecipeError([RecipeProblem(position: position, message: message)])
        }
        let random = recipe.random(of: stage).child("init")
        let start = try stage.startFrom.map {
            try NetworkFile(contentsOf: folder.file(of: $0.value, recipe))
        }
        let named = stage.model.flatMap { recipe.models[$0.value] }
        guard let architecture = named ?? start?.description.architecture else {
            throw fail("the stage has neither model nor start", at: stage.name.position)
        }
        let quantization = start?.description.quantization
        do {
            network = try Network(
                architecture, input: data.input, classes: data.classes, quantization: quantization,
                random: random)
        } catch {
            throw fail("\(error)", at: stage.model?.position ?? stage.name.position)
        }
        ancestor = stage.startFrom.flatMap { from in
            start.map {
                NetworkFile.Ancestor(name: from.value.lastPathComponent, checksum: $0.checksum)
            }
        }
        steps = start?.description.lineage.steps ?? 0
        let own = ParameterSet(network)
        guard let start, let from = stage.startFrom else {
            new = own.entries.map(\.name)
            return
        }
        let theirs = ParameterSet(start.network)
        for entry in own.entries {
            let isHead = entry.name.hasPrefix("head.")
            guard !(isHead && stage.hasNewHead), let source = theirs[entry.name] else {
                new.append(entry.name)
                continue
            }
            guard source.shape == entry.parameter.shape else {
                let advice = isHead ? "; say `head: new` for a new one" : ""
                throw fail(
                    "'\(entry.name)' of '\(from.value)' has shape \(source.shape), "
                        + "\(entry.parameter.shape) is needed here" + advice, at: from.position)
            }
            entry.parameter.assign(source.value)
            if let mask = source.mask { entry.parameter.setMask(mask) }
            taken.append(entry.name)
        }
        for (name, buffer) in own.buffers {
            if let source = theirs.buffers.first(where: { $0.name == name })?.buffer,
                source.value.shape == buffer.value.shape
            {
                buffer.value = source.value
            }
        }
        unused = theirs.entries.map(\.name).filter { !taken.contains($0) }
        guard !taken.isEmpty else {
            throw fail("no tensor of '\(from.value)' fits this network", at: from.position)
        }
        guard start.description.largestPixel == data.largestPixel else {
            throw fail(
                "the largest pixel of '\(from.value)' is \(start.description.largestPixel), here it is "
                    + "\(data.largestPixel); give both the same `largest_pixel`", at: from.position)
        }
    }
}

extension Recipe {
    /// The file that a reference names: relative to the recipe, else to the working folder; a stage's folder stands for
    /// the network in it.
    func file(_ reference: String) -> String {
        var path = reference
        let beside = home + "/" + reference
        if !reference.hasPrefix("/"), FileAccess.exists(beside) { path = beside }
        let network = path + "/network.safetensors"
        return FileAccess.isFolder(path) && FileAccess.exists(network) ? network : path
    }

    /// The folder of the recipe's file.
    var home: String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        return parts.isEmpty ? "." : parts.joined(separator: "/")
    }

    /// The stream of all that is random in a stage.
    func random(of stage: Stage) -> RandomStream {
        RandomStream(seed: seed).child("stage").child(stage.name.value)
    }
}

extension RunFolder {
    /// The network file that a stage's name, or a path, stands for.
    func file(of reference: String, _ recipe: Recipe) -> String {
        if recipe.stages.contains(where: { $0.name.value == reference }) {
            return network(reference)
        }
        return recipe.file(reference)
    }
}

extension String {
    /// What stands behind the last slash: files of a run name no folders.
    var lastPathComponent: String { split(separator: "/").last.map(String.init) ?? self }
}
