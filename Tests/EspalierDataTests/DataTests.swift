import EspalierData
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

@Suite struct IDXTests {
    private func refuses(_ path: String, rank: Int = 3) -> Bool {
        do {
            _ = try IDX(contentsOf: path, rank: rank)
            return false
        } catch { return !error.problem.isEmpty }
    }

    @Test func digitsOfTheRepository() throws {
        let folder = DatasetFolder(path: Fixtures.packageRoot + "/datasets/digits")
        let (train, test) = (try folder.load(.train), try folder.load(.test))
        #expect(train.count == 1437 && test.count == 360)
        #expect(train.shape == [8, 8, 1])
        #expect(train.pixels.max() == 16)
        func counts(_ examples: ImageExamples) -> [Int] {
            (0..<10).map { digit in examples.labels.count { $0 == digit } }
        }
        // As the data set's description says.
        #expect(counts(train) == [143, 146, 142, 146, 144, 145, 144, 143, 141, 143])
        #expect(counts(test) == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37])
    }

    @Test func damage() throws {
        try Fixtures.withFolder { folder in
            let path = folder + "/images"
            try Fixtures.writeIDX(Array(0..<24), [2, 3, 4], to: path)
            let good = try #require(FileManager.default.contents(atPath: path))
            #expect(try IDX(contentsOf: path, rank: 3).bytes == Array(0..<24))
            #expect(refuses(path, rank: 1))
            for length in 0..<good.count {
                try good.prefix(length).write(to: URL(fileURLWithPath: path))
                #expect(refuses(path), "\(length) bytes")
            }
            try (good + Data([1])).write(to: URL(fileURLWithPath: path))
            #expect(refuses(path))
            // Header bits: another shape of the same size is the only thing that can pass.
            for bit in 0..<(16 * 8) {
                var data = good
                data[bit / 8] ^= 1 << (bit % 8)
                try data.write(to: URL(fileURLWithPath: path))
                #expect(refuses(path), "bit \(bit)")
            }
        }
    }

    @Test func rotationNeedsNoLabels() throws {
        try Fixtures.withFolder { folder in
            try Fixtures.writeIDX(
                Array(0..<24), [2, 3, 4], to: folder + "/train-images-idx3-ubyte")
            let data = DatasetFolder(path: folder)
            #expect(try data.load(.train, needsLabels: false).labels == [0, 0])
            #expect(throws: DataError.self) { try data.load(.train) }
        }
    }

    @Test func damagedGzip() throws {
        try Fixtures.withFolder { folder in
            let source = Fixtures.packageRoot + "/datasets/digits/t10k-labels-idx1-ubyte.gz"
            let good = try #require(FileManager.default.contents(atPath: source))
            let path = folder + "/labels.gz"
            let labels = try IDX(contentsOf: source, rank: 1).bytes
            for byte in 10..<good.count {
                var data = good
                data[byte] ^= 4
                try data.write(to: URL(fileURLWithPath: path))
                // A flip in the padding of the compressed stream changes nothing; others are found.
                let read = try? IDX(contentsOf: path, rank: 1).bytes
                #expect(read == nil || read == labels, "byte \(byte)")
                try good.prefix(byte).write(to: URL(fileURLWithPath: path))
                #expect(refuses(path, rank: 1), "cut to \(byte) bytes")
            }
        }
    }
}

@Suite struct BatchTests {
    private let examples = ImageExamples(
        shape: [3, 3, 1], pixels: Array(1...9) + Array(11...19), labels: [5, 6])

    private func rows(_ image: Tensor) -> [Float] { image.elements }

    @Test func quarterTurns() {
        let batches = ImageBatches(examples, task: .rotation, scale: 1)
        #expect(batches.count == 8)
        let (images, classes) = batches.batch(0..<4)
        #expect(classes.elements == [0, 1, 2, 3])
        #expect(
            images.elements == [
                1, 2, 3, 4, 5, 6, 7, 8, 9,
                3, 6, 9, 2, 5, 8, 1, 4, 7,
                9, 8, 7, 6, 5, 4, 3, 2, 1,
                7, 4, 1, 8, 5, 2, 9, 6, 3,
            ])
    }

    @Test func shifts() {
        let batches = ImageBatches(examples, task: .classes, scale: 1)
        var seen: Set<[Float]> = []
        for seed in 0..<200 {
            let image = batches.batch(
                [0], augmentation: Augmentation(shift: 1), random: RandomStream(seed: UInt64(seed))
            ).images
            seen.insert(image.elements)
        }
        #expect(seen.count == 9)
        #expect(seen.contains([1, 2, 3, 4, 5, 6, 7, 8, 9]))
        #expect(seen.contains([5, 6, 0, 8, 9, 0, 0, 0, 0]))
        #expect(seen.contains([0, 0, 0, 0, 1, 2, 0, 4, 5]))
    }

    @Test func randomChangesBelongToTheirAddress() {
        let batches = ImageBatches(examples, task: .classes, scale: 0.1)
        let changes = Augmentation(shift: 1, noise: 0.2, quarterTurns: true)
        func batch(_ indices: [Int], _ seed: UInt64) -> [Float] {
            batches.batch(indices, augmentation: changes, random: RandomStream(seed: seed)).images
                .elements
        }
        #expect(batch([0, 1], 4) == batch([0, 1], 4))
        #expect(batch([0, 1], 4) != batch([0, 1], 5))
        #expect(Array(batch([0, 1], 4).prefix(9)) == batch([0], 4))
    }

    @Test func splitsAreDisjointAndWhole() {
        let many = ImageExamples(
            shape: [1, 1, 1], pixels: (0..<100).map(UInt8.init), labels: (0..<100).map(Int32.init))
        let cut = many.split(share: 0.2, random: RandomStream(seed: 1))
        #expect(cut.part.count == 20 && cut.rest.count == 80)
        #expect(Set(cut.part.labels).union(cut.rest.labels).count == 100)
        #expect(cut.rest.labels == cut.rest.labels.sorted())
        let order = ImageBatches(many, task: .classes, scale: 1)
        let random = RandomStream(seed: 2)
        #expect(order.order(epoch: 0, random: random).sorted() == Array(0..<100))
        #expect(order.order(epoch: 0, random: random) != order.order(epoch: 1, random: random))
    }
}
