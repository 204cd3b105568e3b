public import EspalierTensors

/// Labelled images in memory, one byte a channel.
public struct ImageExamples: Sendable {
    /// The shape of one image. [H, W, C]
    public let shape: Shape
    /// All pixels, image after image.
    public let pixels: [UInt8]
    /// The class of each image.
    public let labels: [Int32]

    /// The number of images.
    public var count: Int { labels.count }

    /// Images and their labels.
    ///
    /// - Precondition: there are `labels.count` images of `shape`.
    public init(shape: Shape, pixels: [UInt8], labels: [Int32]) {
        require(pixels.count == labels.count * shape.elementCount, "images and labels differ")
        self.shape = shape
        self.pixels = pixels
        self.labels = labels
    }

    /// Reads images [N, H, W] and labels [N] in the IDX format.
    ///
    /// - Throws: `DataError` where a file is missing or damaged, or they do not belong together.
    public init(images: String, labels: String) throws(DataError) {
        let pixels = try IDX(contentsOf: images, rank: 3)
        let classes = try IDX(contentsOf: labels, rank: 1)
        guard pixels.extents[0] == classes.extents[0] else {
            throw DataError(
                path: labels, "\(classes.extents[0]) labels for \(pixels.extents[0]) images")
        }
        guard pixels.extents[0] > 0, pixels.bytes.count > 0 else {
            throw DataError(path: images, "it holds no images")
        }
        self.init(
            shape: [pixels.extents[1], pixels.extents[2], 1], pixels: pixels.bytes,
            labels: classes.bytes.map(Int32.init))
    }

    /// Reads images [N, H, W] in the IDX format; all labels are 0.
    ///
    /// - Throws: `DataError` where the file is missing or damaged.
    public init(images: String) throws(DataError) {
        let pixels = try IDX(contentsOf: images, rank: 3)
        guard pixels.bytes.count > 0 else { throw DataError(path: images, "it holds no images") }
        self.init(
            shape: [pixels.extents[1], pixels.extents[2], 1], pixels: pixels.bytes,
            labels: [Int32](repeating: 0, count: pixels.extents[0]))
    }

    /// Some of the images, in the order of `indices`.
    public func selecting(_ indices: [Int]) -> ImageExamples {
        let size = shape.elementCount
        var chosen: [UInt8] = []
        chosen.reserveCapacity(indices.count * size)
        for index in indices { chosen += pixels[index * size..<(index + 1) * size] }
        return ImageExamples(shape: shape, pixels: chosen, labels: indices.map { labels[$0] })
    }

    /// Two parts: a random share of the images and the others, each in the original order.
    ///
    /// The cut depends on the stream and the number of images alone, so that every use of a data set under one seed
    /// cuts off the same images.
    public func split(share: Double, random: RandomStream) -> (
        rest: ImageExamples, part: ImageExamples
    ) {
        let size = Int((share * Double(count)).rounded())
        let order = random.permutation(count)
        return (selecting(order.dropFirst(size).sorted()), selecting(order.prefix(size).sorted()))
    }
}
