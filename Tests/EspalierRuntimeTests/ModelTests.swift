import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierNN
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Testing

@Suite("Models that run") struct ModelTests {
    private static let networks: [(Architecture, Shape)] = [
        (.convnet(channels: [8, 12], hidden: 20, dropout: 0.2), [8, 8, 1]),
        (.convnet(channels: [5], hidden: 0, dropout: 0), [6, 7, 3]),
        (.mlp(hidden: [33, 17], dropout: 0.1), [4, 4, 2]), (.resnet(depth: 8), [8, 9, 3]),
    ]

    @Test("A network of floats gives what its tape gives", arguments: 0..<4)
    func floats(index: Int) throws {
        let (architecture, input) = Self.networks[index]
        let network = try Network(
            architecture, input: input, classes: 5, random: RandomStream(seed: 3))
        for (number, buffer) in ParameterSet(network).buffers.enumerated() {
            let random = RandomStream(seed: UInt64(number))
            buffer.buffer.value = Tensor(
                random.uniform(buffer.buffer.value.count).map { $0 + 0.5 },
                shape: buffer.buffer.value.shape)
        }
        let model = try Model(network.graph())
        let x = examples(9, input)
        let (own, tape) = (model.run(x), evaluated(network, x))
        #expect(own.shape == tape.shape)
        for (a, b) in zip(own.elements, tape.elements) { #expect(abs(a - b) < 1e-4 * (1 + abs(b))) }
    }

    @Test("Results do not depend on batch, threads or instruction set")
    func sameBits() throws {
        let x = examples(64, [8, 8, 1])
        let network = try Network(
            Self.networks[0].0, input: [8, 8, 1], classes: 5, random: RandomStream(seed: 3))
        let graphs = [
            try QuantizedConvnet(seed: 5).recordedGraph(example: [8, 8, 1]).folded(),
            try QuantizedConvnet(seed: 6, masks: true).recordedGraph(example: [8, 8, 1]).folded(),
            try network.graph(),
        ]
        for graph in graphs {
            let model = try Model(graph)
            let whole = model.run(x).elements
            let width = model.outputCount
            for isa in ISA.available {
                for batch in [1, 7, 64] {
                    var parts: [Float] = []
                    for first in stride(from: 0, to: 64, by: batch) {
                        let count = min(batch, 64 - first)
                        let part = Tensor(
                            Array(x.elements[first * 64..<(first + count) * 64]),
                            shape: [count, 8, 8, 1])
                        parts += model.run(part, isa: isa).elements
                    }
                    let differs = whole.indices.filter { whole[$0] != parts[$0] }
                    #expect(
                        differs.isEmpty,
                        "\(isa), batch \(batch): example \((differs.first ?? 0) / width)")
                }
            }
        }
        let model = try Model(graphs[1])
        let many = examples(1000, [8, 8, 1])
        let before = ThreadPool.shared.width
        defer { ThreadPool.shared.width = before }
        ThreadPool.shared.width = 1
        let one = model.run(many)
        ThreadPool.shared.width = 2
        #expect(model.run(many).isIdentical(to: one))
        // One that is over so soon that it stays on its thread.
        let tiny = try Model(
            Network(
                .mlp(hidden: [3], dropout: 0), input: [8, 8, 1], classes: 2,
                random: RandomStream(seed: 1)
            ).graph())
        let whole = tiny.run(many).elements
        for _ in 0..<3 { #expect(tiny.run(many).elements == whole) }
        #expect(tiny.run(examples(1, [8, 8, 1])).elements == Array(whole.prefix(2)))
    }

    @Test("A report of a plan names its steps, what is left of sparse layers, and times")
    func report() throws {
        let graph = try QuantizedConvnet(seed: 6, masks: true)
            .recordedGraph(example: [8, 8, 1]).folded()
        var table = CostTable.denseIsFree
        table.dense.result = 1e9
        let model = try Model(graph, costs: table)
        let report = model.report(batch: 8, calls: 3)
        #expect(
            report.rows.map(\.name) == [
                "quantize", "conv1", "max_pool2d1", "conv2", "hidden", "head",
            ])
        #expect(report.capacity == 8 && report.bytes > 0)
        #expect(report.rows[0].reads == [-1])
        #expect(report.rows.allSatisfy { $0.bytes > 0 && $0.nanoseconds ?? -1 >= 0 })
        let live = try #require(report.rows[4].live)
        #expect(live.all == 68 / (report.rows[4].kernel.contains("four") ? 4 : 1) * 80)
        #expect((1..<live.all).contains(live.count))
        #expect(report.rows[5].live == nil)
        #expect(model.report(batch: 1).rows.allSatisfy { $0.nanoseconds == nil })
    }

    @Test("Sparse kernels give what dense ones give, whatever the table chooses")
    func sparseAndDense() throws {
        let graph = try QuantizedConvnet(seed: 7, masks: true)
            .recordedGraph(example: [8, 8, 1]).folded()
        let x = examples(100, [8, 8, 1])
        var tables = [CostTable](repeating: .shipped(.current), count: 3)
        // One for which dense kernels cost nothing, and two for which one kind of sparse ones does.
        tables[0] = CostTable.denseIsFree
        var free = tables[0].oneByFour
        (free.entry, free.farEntry, free.planarEntry) = (0, 0, 0)
        (free.splitEntry, free.result) = (0, 0)
        for index in [1, 2] {
            (tables[index].toBlock, tables[index].fromBlock, tables[index].toPlanes) = (0, 0, 0)
        }
        tables[1].oneByFour = free
        tables[2].fourByFour = free
        let kinds = ["INT8 dense", "INT8 sparse oneByFour", "INT8 sparse fourByFour"]
        var results: [[Float]] = []
        for (table, kind) in zip(tables, kinds) {
            let model = try Model(graph, costs: table)
            for batch in [1, 3, 100] {
                let steps = model.plan(for: batch).steps
                for name in ["conv2", "hidden"] {
                    let kernel = steps.first { $0.name == name }?.kernel
                    #expect(kernel?.hasPrefix(kind) == true, "\(name): \(kernel ?? "none")")
                }
            }
            for isa in ISA.available {
                results.append(model.run(x, isa: isa).elements)
                results.append(
                    (0..<100).flatMap { index in
                        let one = Array(x.elements[index * 64..<(index + 1) * 64])
                        return model.run(Tensor(one, shape: [1, 8, 8, 1]), isa: isa).elements
                    })
                results.append(
                    stride(from: 0, to: 100, by: 5).flatMap { index in
                        let five = Array(x.elements[index * 64..<(index + 5) * 64])
                        return model.run(Tensor(five, shape: [5, 8, 8, 1]), isa: isa).elements
                    })
            }
        }
        #expect(results.count >= 9)
        for (index, result) in results.enumerated() {
            #expect(result == results[0], "result \(index)")
        }
    }

    @Test("A batch that is no whole number of examples is refused; an empty one is empty")
    func batches() throws {
        let model = try Model(
            Network(
                .mlp(hidden: [3], dropout: 0), input: [4], classes: 2, random: RandomStream(seed: 1)
            ).graph())
        #expect(throws: ModelError.self) { try model.run([Float](repeating: 0, count: 5)) }
        #expect(try model.run([]).isEmpty)
        #expect(try model.run([1, 2, 3, 4]).count == 2)
    }
}
