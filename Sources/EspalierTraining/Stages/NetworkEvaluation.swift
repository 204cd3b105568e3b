import EspalierCodec
import EspalierData
import EspalierGraph
import EspalierNN
import EspalierRuntime
import EspalierTensors
import Foundation

/// A network measured on labelled data: one in training's format, or a file as it ships. Both run on the runtime.
public struct NetworkEvaluation: Sendable, CustomStringConvertible {
    /// Examples whose class it finds.
    public let correct: Int
    /// Examples.
    public let count: Int
    /// Mean cross-entropy.
    public let loss: Double
    /// The network's forward on the training tape against the runtime, where it was asked for.
    public let comparison: TapeComparison?
    private let file: String
    private let bytes: Int
    private let sparsity: String
    private let numbers: String?

    /// Runs the network of a file over a part of a data set.
    ///
    /// - Parameters:
    ///   - file: `.safetensors` as training writes them, or `.espalier`.
    ///   - data: A data set's name, or a folder with IDX files.
    ///   - part: `train`, `dev` or `test`; `dev` only where the data set has that part.
    ///   - comparesLayers: Whether to compare with the training tape, layer by layer; a `.espalier` file has none.
    /// - Throws: `FileError` or `DataError` where something is missing, damaged or does not fit.
    public init(
        file: String, data: String, part: String, comparesLayers: Bool = false
    ) throws {
        let subject = try Subject(file)
        guard let part = DatasetFolder.Part(rawValue: part) else {
            throw DataError(path: data, "there is no part '\(part)'; train, dev or test")
        }
        let examples = try subject.examples(of: data, part)
        let result = Evaluation(of: subject.model, on: examples)
        (correct, count, loss) = (result.correct, result.count, result.loss)
        self.file = file
        bytes = try FileAccess.read(file).count
        sparsity = subject.sparsity
        numbers = subject.model.graph.numbers
        guard comparesLayers else {
            comparison = nil
            return
        }
        guard let network = subject.network else {
            throw FileError(
                path: file,
                "it holds no training network to compare with; give the network.safetensors that it was "
                    + "exported from")
        }
        comparison = TapeComparison(network, subject.model, on: examples)
    }

    public var description: String {
        let accuracy = String(format: "%.2f %%", 100 * Double(correct) / Double(max(count, 1)))
        return """
            \(file), \(bytes) bytes
            accuracy  \(accuracy) (\(correct) of \(count))
            loss      \(String(format: "%.4f", loss))
            sparsity  \(sparsity)\(numbers.map { "\nnumbers   \($0)" } ?? "")
            """ + (comparison.map { "\ntape against runtime:\n\($0)" } ?? "")
    }
}

extension Graph {
    /// What its numbers are, for people; nil for floats.
    var numbers: String? {
        let weights = constants.compactMap { constant -> QuantizationScheme? in
            guard case .codes(let codes) = constant.value else { return nil }
            return codes.parameters.scheme
        }
        let grids = ([input.quantization] + nodes.map(\.quantization)).compactMap { $0?.scheme }
        guard let first = weights.first else { return nil }
        let bits = Set(weights.map(\.bits)).sorted().map(String.init).joined(separator: " and ")
        return "weights of \(bits) bits in \(weights.count) layers, "
            + (first.granularity == .tensor ? "one scale a tensor" : "one scale an output")
            + (grids.first.map { "; activations of \($0.bits) bits" } ?? "")
    }
}

/// What an evaluation is about.
private struct Subject {
    let model: Model
    let network: Network?
    let task: ImageTask
    let largestPixel: Double
    let sparsity: String

    init(_ file: String) throws {
        if file.hasSuffix(".espalier") {
            let deployed = try DeployedNetwork(contentsOf: file)
            model = deployed.model
            network = nil
            (task, largestPixel) = (deployed.information.task, deployed.information.largestPixel)
            sparsity = Subject.text(
                masked: model.graph.constants.compactMap { constant in
                    constant.mask.map { ($0.liveCount, $0.shape.elementCount) }
                })
            return
        }
        let saved = try NetworkFile(contentsOf: file)
        do {
            model = try Model(saved.network.graph())
        } catch {
            throw FileError(path: file, "it cannot be run: \(error)")
        }
        network = saved.network
        (task, largestPixel) = (saved.description.task, saved.description.largestPixel)
        sparsity = Subject.text(
            masked: ParameterSet(saved.network).entries.compactMap { entry in
                entry.parameter.mask.map { ($0.liveCount, $0.shape.elementCount) }
            })
    }

    private static func text(masked: [(live: Int, total: Int)]) -> String {
        let total = masked.reduce(0) { $0 + $1.total }
        guard total > 0 else { return "dense" }
        let pruned = total - masked.reduce(0) { $0 + $1.live }
        return String(format: "%.2f %%", 100 * Double(pruned) / Double(total))
            + " of \(total) weights of masked parameters pruned"
    }

    func examples(of data: String, _ part: DatasetFolder.Part) throws -> ImageBatches {
        guard model.outputExtents.count == 1 else {
            throw DataError(
                path: data, "the network gives \(model.outputExtents), not one value a class")
        }
        let source: Recipe.Data.Source = data.contains("/") ? .folder(data) : .named(data)
        let folder = try TaskData.folder(source, home: ".")
        let examples = try folder.load(part, needsLabels: task == .classes)
        // Those who only measure may have no training part.
        let whole = folder.has(.train) ? try folder.load(.train, needsLabels: false) : examples
        let largest = Double(max(whole.pixels.max() ?? 1, 1))
        guard largest <= largestPixel else {
            throw DataError(
                path: folder.path,
                "its largest pixel is \(Int(largest)), the network was trained on 0 to "
                    + "\(Int(largestPixel))")
        }
        guard Array(examples.shape) == model.inputExtents else {
            throw DataError(
                path: folder.path,
                "its images are \(examples.shape), the network takes \(model.inputExtents)")
        }
        let classes = model.outputCount
        guard task != .rotation || (classes >= 4 && examples.shape[0] == examples.shape[1]) else {
            throw DataError(
                path: folder.path,
                "the network is for turned images: it needs square ones and four classes, here are "
                    + "images of \(examples.shape) and \(classes) classes")
        }
        if task == .classes,
            let index = examples.labels.firstIndex(where: { Int($0) >= classes })
        {
            throw DataError(
                path: folder.labelsFile(part),
                "label \(index) (counted from 0) is \(examples.labels[index]); the network knows "
                    + "classes 0 to \(classes - 1)")
        }
        return ImageBatches(examples, task: task, scale: Float(1 / largestPixel))
    }
}
