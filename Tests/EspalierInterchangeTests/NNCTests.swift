import EspalierCodec
import EspalierInterchange
import EspalierTensors
import EspalierTesting
import Testing

/// NNC streams of our own.
@Suite struct NNCTests {
    private func integers(_ count: Int, _ random: RandomStream, below limit: Int) -> [Int32] {
        random.integers(count, below: 2 * limit + 1).map { Int32($0 - limit) }
    }

    @Test("Integers of any kind come back", arguments: [0, 1, 2, 3, 4])
    func integersComeBack(scanOrder: Int) throws {
        for (seed, shape) in [
            [1], [7], [1, 30], [30, 1], [9, 13], [40, 33], [70, 5, 3], [129, 64],
        ]
        .enumerated() {
            let random = RandomStream(seed: UInt64(seed))
            let count = shape.reduce(1, *)
            for (number, limit) in [0, 1, 2, 11, 12, 300, 1 << 20, Int(Int32.max)].enumerated() {
                var values = integers(count, random.child(UInt64(number)), below: limit)
                // Rows of zeros, and zeros between.
                for index in values.indices where index / max(shape.last ?? 1, 1) % 3 == 1 {
                    values[index] = 0
                }
                for flags in [1, 2, 11, 256] {
                    var writer = NNCWriter()
                    writer.options.scanOrder = scanOrder
                    writer.options.greaterFlags = flags
                    writer.options.searchLimit = number % 2 == 0 ? .max : 0
                    let tensor = IndexTensor(values, shape: Shape(shape))
                    try writer.add("x", integers: tensor, format: .int8)
                    try writer.add("y", codebookMultiples: tensor, qp: -8)
                    let bytes = try writer.encoded()
                    var options = NNCReader.Options()
                    options.leastForEntryPoints = 0
                    let reader = try NNCReader(bytes, options: options)
                    #expect(reader["x"]?.codes == tensor && reader["x"]?.format == .int8)
                    #expect(
                        reader["y"]?.floats.elements
                            == values.map { Float(Double($0) * 0.25) })
                    #expect(try reader.encodedAgain() == bytes)
                }
            }
        }
    }

    @Test("Floats keep their error, with rows skipped and blocks scanned", arguments: [0, 1, 4])
    func floats(scanOrder: Int) throws {
        for shape in [[40, 36], [37, 29], [300], [16, 3, 3, 3]] as [Shape] {
            var values = Fixtures.normal(shape, seed: 5).elements
            for index in values.indices where shape.rank > 1 && index / (shape.last ?? 1) % 4 == 0 {
                values[index] = 0
            }
            let tensor = Tensor(values, shape: shape)
            var errors: [Double] = []
            var sizes: [Int] = []
            for (isDependent, lambda) in [(false, 0.0), (true, 0), (false, 1), (true, 1)] {
                var writer = NNCWriter()
                writer.options.scanOrder = scanOrder
                writer.options.isDependent = isDependent
                writer.options.lambda = lambda
                try writer.add("x", tensor, qp: -12)
                let bytes = try writer.encoded()
                let reader = try NNCReader(bytes)
                let result = try #require(reader["x"]).floats.elements
                let error = zip(result, values).reduce(0.0) {
                    $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1))
                }
                errors.append(error / Double(values.count))
                sizes.append(bytes.count)
                for (a, b) in zip(result, values) {
                    #expect(abs(a - b) <= (isDependent ? 2 : lambda > 0 ? 1.5 : 0.5) * 0.1251)
                }
                #expect(try reader.encodedAgain() == bytes)
            }
            // A step's error is a twelfth of its square; the trellis, of twice the step a quantizer, has more of it.
            #expect(errors[0] < 0.125 * 0.125 / 11 && errors[1] < 4 * errors[0], "\(errors)")
            #expect(
                sizes[1] < sizes[0] && sizes[2] <= sizes[0] && sizes[3] <= sizes[1],
                "\(sizes) \(shape)")
        }
    }

    @Test("Exact floats and large steps")
    func exact() throws {
        let scales = Tensor((0..<40).map { 0.001 * Float($0 + 1).squareRoot() }, shape: [40])
        var writer = NNCWriter(baseQP: -100)
        try writer.add("scales", exact: scales)
        let back = try #require(try NNCReader(writer.encoded())["scales"])
        #expect(back.floats.isIdentical(to: scales) && !back.isDependent)
        // 3e38 in steps of 2^-9.5 is beyond 31 bits.
        var large = NNCWriter()
        try large.add("x", Tensor([1e6, -3e6, 5], shape: [3]))
        let x = try #require(try NNCReader(large.encoded())["x"])
        #expect(try #require(x.quantizationParameter) > -75)
        #expect(abs(x.floats.elements[1] + 3e6) < 1)
    }

    @Test("What cannot be written is refused")
    func refused() throws {
        var writer = NNCWriter()
        try writer.add("a", Tensor(1))
        #expect(try NNCReader(writer.encoded())["a"]?.shape == [1])
        let one = Tensor([1], shape: [1])
        for name in ["a", "b\0", "x_G", "x_H"] {
            #expect(throws: NNCError.self) { try writer.add(name, one) }
        }
        #expect(throws: NNCError.self) { try writer.add("n", Tensor([.nan], shape: [1])) }
        #expect(throws: NNCError.self) { try writer.add("i", Tensor([.infinity], shape: [1])) }
        #expect(throws: NNCError.self) { try writer.add("e", Tensor.zeros([0, 3])) }
        #expect(throws: NNCError.self) { try writer.add("q", one, qp: 128) }
        #expect(throws: NNCError.self) { try writer.add("m", integers: IndexTensor([.min])) }
        #expect(throws: NNCError.self) {
            try writer.add("x", exact: Tensor([1, 1e-20], shape: [2]))
        }
        #expect(try NNCReader(writer.encoded()).tensors.count == 1)
    }

    @Test("One thread and two give the same bytes and numbers")
    func threads() throws {
        let width = ThreadPool.shared.width
        defer { ThreadPool.shared.width = width }
        let tensor = Fixtures.normal([256, 200], seed: 3)
        var results: [[UInt8]] = []
        for threads in [1, 2] {
            ThreadPool.shared.width = threads
            var writer = NNCWriter()
            writer.options.scanOrder = 2
            try writer.add("x", tensor)
            try writer.add("y", tensor, qp: -20)
            results.append(try writer.encoded())
            let sequential = NNCReader.Options()
            var besides = sequential
            besides.usesEntryPoints = false
            let a = try NNCReader(results[0], options: sequential)
            let b = try NNCReader(results[0], options: besides)
            #expect(a["x"]?.codes == b["x"]?.codes && a["y"]?.codes == b["y"]?.codes)
        }
        #expect(results[0] == results[1])
    }

    @Test("A caller's limit holds before memory is taken")
    func limit() throws {
        var writer = NNCWriter()
        try writer.add(
            "x", integers: IndexTensor([Int32](repeating: 0, count: 5000), shape: [50, 100]))
        try writer.add("y", integers: IndexTensor([1, 2, 3]))
        let bytes = try writer.encoded()
        var options = NNCReader.Options()
        options.limit = 5003
        #expect(try NNCReader(bytes, options: options).tensors.count == 2)
        options.limit = 5002
        #expect(throws: NNCError.self) { try NNCReader(bytes, options: options) }
    }

    @Test("Files on the disk")
    func files() throws {
        try Fixtures.withFolder { folder in
            var writer = NNCWriter()
            try writer.add("x", integers: IndexTensor([1, 2, 3]))
            try writer.write(to: folder + "/x.nnc")
            #expect(try NNCReader(contentsOf: folder + "/x.nnc")["x"]?.codes.elements == [1, 2, 3])
            #expect(throws: FileError.self) { try NNCReader(contentsOf: folder + "/none") }
            #expect(throws: FileError.self) { try NNCReader(contentsOf: folder) }
        }
    }
}
