import EspalierCodec
import EspalierData
import EspalierNN
import EspalierTensors
import Foundation

/// A network measured on labelled data.
public struct NetworkEvaluation: Sendable, CustomStringConvertible {
    /// Examples whose class it finds.
    public let correct: Int
    /// Examples.
    public let count: Int
    /// Mean cross-entropy.
    public let loss: Double
    private let file: String
    private let sparsity: SparsityCount
    private let quantization: NetworkQuantization?

    /// Runs the network of a file over a part of a data set.
    ///
    /// - Parameters:
    ///   - data: A data set's name, or a folder with IDX files.
    ///   - part: `train`, `dev` or `test`; `dev` only where the data set has that part.
    /// - Throws: `FileError` or `DataError` where something is missing, damaged or does not fit.
    public init(file: String, data: String, part: String) throws {
        let saved = try NetworkFile(contentsOf: file)
        guard let part = DatasetFolder.Part(rawValue: part) else {
            throw DataError(path: data, "there is no part '\(part)'; train, dev or test")
        }
        let source: Recipe.Data.Source = data.contains("/") ? .folder(data) : .named(data)
        let folder = try TaskData.folder(source, home: ".")
        let examples = try folder.load(part, needsLabels: saved.description.task == .classes)
        let description = saved.description
        let largest = Double(max(try folder.load(.train, needsLabels: false).pixels.max() ?? 1, 1))
        guard largest <= description.largestPixel else {
            throw DataError(
                path: folder.path,
                "its largest pixel is \(Int(largest)), the network was trained on 0 to "
                    + "\(Int(description.largestPixel))")
        }
        guard Array(examples.shape) == description.input else {
            throw DataError(
                path: folder.path,
                "its images are \(examples.shape), the network takes \(saved.network.input)")
        }
        let classes = description.classes
        if description.task == .classes,
            let index = examples.labels.firstIndex(where: { Int($0) >= classes })
        {
            throw DataError(
                path: folder.labelsFile(part),
                "label \(index) (counted from 0) is \(examples.labels[index]); the network knows "
                    + "classes 0 to \(classes - 1)")
        }
        let batches = ImageBatches(
            examples, task: description.task, scale: Float(1 / description.largestPixel))
        let result = Evaluation(of: saved.network, on: batches)
        (correct, count, loss) = (result.correct, result.count, result.loss)
        self.file = file
        sparsity = SparsityCount(ParameterSet(saved.network))
        quantization = saved.network.quantization
    }

    public var description: String {
        let accuracy = String(format: "%.2f %%", 100 * Double(correct) / Double(max(count, 1)))
        let masked =
            sparsity.total == 0
            ? "dense"
            : String(format: "%.2f %%", 100 * sparsity.share)
                + " of \(sparsity.total) weights of masked parameters pruned"
        let numbers = quantization.map { schemes in
            "\nnumbers   weights of \(schemes.weights.bits) bits, "
                + (schemes.weights.axis == nil ? "one scale a tensor" : "one scale an output")
                + "; activations of \(schemes.activations.bits) bits"
        }
        return """
            \(file)
            accuracy  \(accuracy) (\(correct) of \(count))
            loss      \(String(format: "%.4f", loss))
            sparsity  \(masked)\(numbers ?? "")
            """
    }
}
