package import EspalierData
import EspalierInterchange
import EspalierTensors

/// A recipe's data set, loaded: the parts that training may see, and the way to the one that it may not.
package struct TaskData {
    let name: String
    let task: ImageTask
    let folder: DatasetFolder
    /// The shape of one example.
    let input: Shape
    let classes: Int
    let largestPixel: Double
    package let train: ImageBatches
    package let dev: ImageBatches?
    let augmentation: Augmentation

    /// Loads training and dev part.
    ///
    /// - Throws: `DataError` where files are missing or damaged, or labels are out of range.
    package init(_ name: String, _ data: Recipe.Data, seed: UInt64, recipePath: String) throws {
        self.name = name
        task = data.task
        augmentation = data.augmentation
        folder = try TaskData.folder(data.source.value, recipePath: recipePath)
        let all = try folder.load(.train)
        largestPixel = data.largestPixel ?? Double(max(all.pixels.max() ?? 1, 1))
        let own = folder.has(.dev) ? try folder.load(.dev) : nil
        let labelled = data.task == .classes
        classes =
            labelled
            ? try data.classes ?? TaskData.classes(all, folder) : 4
        if labelled {
            try TaskData.check(all, classes, folder.labelsFile(.train))
            if let own { try TaskData.check(own, classes, folder.labelsFile(.dev)) }
        }
        if task == .rotation, all.shape[0] != all.shape[1] {
            throw DataError(
                path: folder.path,
                "images of \(all.shape[0])x\(all.shape[1]) cannot be turned; "
                    + "the task 'rotation' needs square ones")
        }
        if let own, own.shape != all.shape {
            throw DataError(
                path: folder.path, "dev images \(own.shape), training images \(all.shape)")
        }
        input = all.shape
        let scale = Float(1 / largestPixel)
        // The cut depends on the seed alone: a data set used for two tasks keeps the same images apart.
        let cut = all.split(
            share: own == nil ? data.dev : 0, random: RandomStream(seed: seed).child("dev"))
        guard cut.rest.count > 0 else {
            throw DataError(path: folder.path, "no training image is left after the dev part")
        }
        train = ImageBatches(cut.rest, task: task, scale: scale)
        let kept = own ?? cut.part
        dev = kept.count > 0 ? ImageBatches(kept, task: task, scale: scale) : nil
    }

    /// Reads the test part. Only the closing table calls it, after all training.
    func loadTest() throws -> ImageBatches {
        let examples = try folder.load(.test)
        if task == .classes { try TaskData.check(examples, classes, folder.labelsFile(.test)) }
        guard examples.shape == input else {
            throw DataError(
                path: folder.path, "test images \(examples.shape), training images \(input)")
        }
        return ImageBatches(examples, task: task, scale: Float(1 / largestPixel))
    }

    /// The folder of a source: by name beside the recipe, in `ESPALIER_DATA` and in ./datasets.
    static func folder(_ source: Recipe.Data.Source, recipePath: String) throws(DataError)
        -> DatasetFolder
    {
        let home = recipePath.split(separator: "/", omittingEmptySubsequences: false).dropLast()
            .joined(separator: "/")
        switch source {
        case .folder(let path):
            let path = path.hasPrefix("/") || home.isEmpty ? path : home + "/" + path
            guard FileAccess.exists(path) else {
                throw DataError(path: path, "there is no such folder")
            }
            return DatasetFolder(path: path)
        case .named(let name):
            var places = [(home.isEmpty ? "." : home) + "/../datasets", "datasets"]
            if let own = environment("ESPALIER_DATA") { places.insert(own, at: 0) }
            return try DatasetFolder.find(name, in: places)
        }
    }

    private static func classes(_ examples: ImageExamples, _ folder: DatasetFolder)
        throws(DataError)
        -> Int
    {
        let count = Int(examples.labels.max() ?? 0) + 1
        let present = Set(examples.labels)
        if let missing = (0..<Int32(count)).first(where: { !present.contains($0) }) {
            throw DataError(
                path: folder.labelsFile(.train),
                "labels go up to \(count - 1), but none is \(missing); "
                    + "say `classes:` in the recipe if that is right")
        }
        return count
    }

    private static func check(
        _ examples: ImageExamples, _ classes: Int, _ file: String
    ) throws(DataError) {
        for (index, label) in examples.labels.enumerated() where Int(label) >= classes {
            throw DataError(
                path: file,
                "label \(index) (counted from 0) is \(label); labels from 0 to \(classes - 1) expected"
            )
        }
    }
}
