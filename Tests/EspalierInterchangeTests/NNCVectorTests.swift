import EspalierInterchange
import EspalierTensors
import Testing

/// Streams of the public package, read and made again (nnc-vectors, 44 of them).
@Suite struct NNCVectorTests {
    @Test("All vectors are at hand", .enabled(if: !NNCVector.complete.isEmpty, note))
    func complete() {
        #expect(NNCVector.complete.count == 44)
    }

    private static let note = Comment(
        rawValue: "no NNC vectors in \(NNCVector.folder); ESPALIER_NNC_VECTORS names their folder")

    @Test("The vectors that come with the tests are there")
    func small() { #expect(NNCVector.small.count == 8) }

    private func readers(
        _ vector: NNCVector, _ options: NNCReader.Options = NNCReader.Options()
    ) throws -> [NNCReader] {
        var readers: [NNCReader] = []
        for stream in vector.streams {
            readers.append(try NNCReader(stream.bytes, after: readers.last, options: options))
        }
        return readers
    }

    private func check(_ vector: NNCVector, _ options: NNCReader.Options) throws {
        for (stream, reader) in zip(vector.streams, try readers(vector, options)) {
            #expect(reader.isLegacy == vector.isLegacy)
            let coded = stream.tensors.filter { $0.output != nil }
            #expect(Set(reader.tensors.map(\.name)) == Set(coded.map(\.name)))
            for item in coded {
                let tensor = try #require(reader[item.name])
                if let codes = item.codes { #expect(tensor.codes.elements == codes) }
                if let qp = item.qp { #expect(tensor.quantizationParameter == qp) }
                switch try #require(item.output) {
                case .integers(let values, let shape):
                    #expect(tensor.isInteger && tensor.codes.elements == values)
                    #expect(tensor.shape == Shape(shape))
                case .floats(let words, let shape):
                    #expect(tensor.floats.elements.map(\.bitPattern) == words)
                    #expect(tensor.shape == Shape(shape))
                }
            }
        }
    }

    @Test("Codes and numbers are the package's, bit for bit", arguments: NNCVector.available)
    func decode(_ vector: NNCVector) throws { try check(vector, NNCReader.Options()) }

    @Test("The same by entry points, and without", arguments: NNCVector.available)
    func entryPoints(_ vector: NNCVector) throws {
        var options = NNCReader.Options()
        options.leastForEntryPoints = 0
        try check(vector, options)
        options.usesEntryPoints = false
        try check(vector, options)
    }

    @Test("The same codes and choices give the same bytes", arguments: NNCVector.available)
    func encode(_ vector: NNCVector) throws {
        let readers = try readers(vector)
        for (index, stream) in vector.streams.enumerated() {
            let previous = index > 0 ? readers[index - 1] : nil
            #expect(try readers[index].encodedAgain(after: previous) == stream.bytes)
        }
    }

    @Test("Plain quantizer and trellis give the package's codes", arguments: NNCVector.available)
    func quantize(_ vector: NNCVector) throws {
        for stream in vector.streams where stream.settings.lambda == 0 && vector.streams.count == 1
        {
            for item in stream.tensors where item.method == "uniform" && stream.density == 2 {
                guard let input = item.input?.tensor, let codes = item.codes, let qp = item.qp,
                    // Folding has changed what was coded, or codes were cut off.
                    item.output != nil, vector.name != "cnn-blocks-bnf",
                    vector.name != "bitdepth-4"
                else { continue }
                var writer = NNCWriter()
                writer.options.isDependent = item.isDependent
                writer.options.scanOrder = item.scanOrder
                try writer.add(item.name, input, qp: qp)
                let again = try #require(try NNCReader(writer.encoded())[item.name])
                #expect(again.codes.elements == codes, "\(item.name)")
                #expect(again.quantizationParameter == qp)
            }
        }
    }

    @Test("The search finds the package's start indices", arguments: NNCVector.available)
    func search(_ vector: NNCVector) throws {
        guard vector.streams.count == 1, !vector.isLegacy else { return }
        for (stream, reader) in zip(vector.streams, try readers(vector)) {
            guard stream.settings.searches, stream.settings.profile == 1 else { continue }
            for item in stream.tensors {
                guard let tensor = reader[item.name], !item.isDependent,
                    item.method == "uniform" || item.method == "skip", stream.density == 2
                else { continue }
                var writer = NNCWriter()
                writer.options.greaterFlags = stream.settings.greaterFlags
                writer.options.scanOrder = item.scanOrder
                writer.options.skipsRows = tensor.skipsRows
                writer.options.searchLimit = .max
                if let qp = item.qp {
                    try writer.add(item.name, multiples: tensor.codes, qp: qp)
                } else {
                    try writer.add(item.name, integers: tensor.codes)
                }
                let again = try #require(try NNCReader(writer.encoded())[item.name])
                #expect(again.startIndices == tensor.startIndices, "\(item.name)")
            }
        }
    }
}
