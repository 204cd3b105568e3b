import EspalierCodec
package import EspalierData
import EspalierKernels
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
    /// Of the training and dev images and labels.
    let checksum: UInt32

    /// Loads training and dev part.
    ///
    /// - Throws: `DataError` where files are missing or damaged, or labels are out of range.
    package init(_ name: String, _ data: Recipe.Data, _ recipe: Recipe) throws {
        self.name = name
        task = data.task
        augmentation = data.augmentation
        folder = try TaskData.folder(data.source.value, home: recipe.home)
        let labelled = data.task == .classes
        let all = try folder.load(.train, needsLabels: labelled)
        largestPixel = data.largestPixel ?? Double(max(all.pixels.max() ?? 1, 1))
        let own = folder.has(.dev) ? try folder.load(.dev, needsLabels: labelled) : nil
        classes =
            labelled
            ? try data.classes ?? TaskData.classes(all, folder) : 4
        if labelled {
            try TaskData.check(all, classes, folder.labelsFile(.train))
            if let own { try TaskData.check(own, classes, folder.labelsFile(.dev)) }
        }
        if task == .rotation || augmentation.quarterTurns, all.shape[0] != all.shape[1] {
            throw DataError(
                path: folder.path,
                "images of \(all.shape[0])x\(all.shape[1]) cannot be turned; "
                    + "'rotation' and 'quarter_turns' need square ones")
        }
        if let own, own.shape != all.shape {
            throw DataError(
                path: folder.path, "dev images \(own.shape), training images \(all.shape)")
        }
        input = all.shape
        checksum = ([all] + (own.map { [$0] } ?? [])).reduce(0) { checksum, part in
            let labels = part.labels.map { UInt8(truncatingIfNeeded: $0) }
            let first = Kernels.crc32c(part.pixels.span, continuing: checksum)
            return Kernels.crc32c(labels.span, continuing: first)
        }
        let scale = Float(1 / largestPixel)
        // The cut depends on the seed alone: a data set used for two tasks keeps the same images apart.
        let cut = all.split(
            share: own == nil ? data.dev : 0, random: RandomStream(seed: recipe.seed).child("dev"))
        guard cut.rest.count > 0 else {
            throw DataError(path: folder.path, "no training image is left after the dev part")
        }
        train = ImageBatches(cut.rest, task: task, scale: scale)
        let kept = own ?? cut.part
        dev = kept.count > 0 ? ImageBatches(kept, task: task, scale: scale) : nil
    }

    /// Reads the test part. Only the closing table calls it, after all training.
    func loadTest() throws -> ImageBatches {
        let examples = try folder.load(.test, needsLabels: task == .classes)
        if task == .classes { try TaskData.check(examples, classes, folder.labelsFile(.test)) }
        guard examples.shape == input else {
            throw DataError(
                path: folder.path, "test images \(examples.shape), training images \(input)")
        }
        return ImageBatches(examples, task: task, scale: Float(1 / largestPixel))
    }

    /// The folder of a source: by name beside the recipe, in `ESPALIER_DATA` and in ./datasets.
    static func folder(_ source: Recipe.Data.Source, home: String) throws(DataError)
        -> DatasetFolder
    {
        switch source {
        case .folder(let path):
            let path = path.hasPrefix("/") || home == "." ? path : home + "/" + path
            guard FileAccess.exists(path) else {
                throw DataError(path: path, "there is no such folder")
            }
            return DatasetFolder(path: path)
        case .named(let name):
            var places = home == "." ? ["datasets"] : [home + "/../datasets", "datasets"]
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
