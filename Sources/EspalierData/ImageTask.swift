public import EspalierTensors

/// What is asked about an image.
public enum ImageTask: String, Sendable, Hashable, CaseIterable, Codable {
    /// Its label.
    case classes
    /// By how many quarter turns it was turned; every image counts four times, once a turn. A pretext task that
    /// needs no labels (Gidaris et al., ICLR 2018).
    case rotation
}

/// Random changes to training images.
public struct Augmentation: Sendable, Hashable {
    /// Largest shift along each axis, in pixels; zeros move in.
    public var shift: Int
    /// Standard deviation of normal noise, in units of the largest pixel.
    public var noise: Float
    /// Whether to turn by a random number of quarter turns.
    public var quarterTurns: Bool

    /// No changes, unless given.
    public init(shift: Int = 0, noise: Float = 0, quarterTurns: Bool = false) {
        self.shift = shift
        self.noise = noise
        self.quarterTurns = quarterTurns
    }
}

/// Images as examples of a task, from which batches are made.
public struct ImageBatches: Sendable {
    private let examples: ImageExamples
    private let task: ImageTask
    private let scale: Float

    /// Examples of a task.
    ///
    /// - Parameter scale: What a pixel is multiplied by; one over the largest gives 0...1.
    public init(_ examples: ImageExamples, task: ImageTask, scale: Float) {
        self.examples = examples
        self.task = task
        self.scale = scale
    }

    /// The number of examples.
    public var count: Int { task == .rotation ? 4 * examples.count : examples.count }

    /// The order of the examples in an epoch.
    public func order(epoch: Int, random: RandomStream) -> [Int] {
        random.child("order").child(UInt64(epoch)).permutation(count)
    }

    /// A batch: images [N, H, W, C] and their classes [N].
    ///
    /// - Parameter random: The stream of the changes; example `i` of the batch takes child `i`. Nil changes nothing.
    public func batch(
        _ indices: some Collection<Int>, augmentation: Augmentation = Augmentation(),
        random: RandomStream? = nil
    ) -> (images: Tensor, classes: IndexTensor) {
        var classes: [Int32] = []
        classes.reserveCapacity(indices.count)
        var images = Tensor.zeros(Shape([indices.count] + Array(examples.shape)))
        var target = images.mutableSpan
        let size = examples.shape.elementCount
        for (position, index) in indices.enumerated() {
            let image = task == .rotation ? index / 4 : index
            var turns = task == .rotation ? index % 4 : 0
            classes.append(task == .rotation ? Int32(turns) : examples.labels[image])
            let own = random?.child(UInt64(position))
            var (down, right) = (0, 0)
            if let own, augmentation.shift > 0 {
                let shifts = own.child("shift").integers(2, below: 2 * augmentation.shift + 1)
                (down, right) = (shifts[0] - augmentation.shift, shifts[1] - augmentation.shift)
            }
            if let own, augmentation.quarterTurns {
                turns = (turns + own.child("turns").integers(1, below: 4)[0]) % 4
            }
            place(image, turns: turns, down: down, right: right, at: position * size, &target)
            if let own, augmentation.noise > 0 {
                let noise = own.child("noise").normal(size)
                for offset in 0..<size {
                    target[position * size + offset] += augmentation.noise * noise[offset]
                }
            }
        }
        return (images, IndexTensor(classes))
    }

    // A turn is counter-clockwise: the right column becomes the top row.
    private func place(
        _ image: Int, turns: Int, down: Int, right: Int, at start: Int,
        _ target: inout MutableSpan<Float>
    ) {
        let (height, width, channels) = (
            examples.shape[0], examples.shape[1], examples.shape[2]
        )
        let base = image * height * width * channels
        let pixels = examples.pixels.span
        for y in 0..<height {
            for x in 0..<width {
                let (row, column) = (y - down, x - right)
                guard row >= 0, row < height, column >= 0, column < width else { continue }
                let (sourceY, sourceX): (Int, Int)
                switch turns {
                case 1: (sourceY, sourceX) = (column, height - 1 - row)
                case 2: (sourceY, sourceX) = (height - 1 - row, width - 1 - column)
                case 3: (sourceY, sourceX) = (width - 1 - column, row)
                default: (sourceY, sourceX) = (row, column)
                }
                let from = base + (sourceY * width + sourceX) * channels
                let to = start + (y * width + x) * channels
                for channel in 0..<channels {
                    target[to + channel] = Float(pixels[from + channel]) * scale
                }
            }
        }
    }
}
