import EspalierEngine
import EspalierKernels
import EspalierNN
import EspalierTensors
import Testing

/// The gradient of a large table holds the rows that were read; everybody sees the same numbers.
@Suite struct EmbeddingGradientTests {
    private let count = 5_000
    private let size = 56

    private func table() -> Embedding {
        Embedding(count: count, size: size, frozen: 3, random: RandomStream(seed: 1))
    }

    /// Rows that come again, the frozen one, the first and the last.
    private func ids(_ salt: Int) -> IndexTensor {
        IndexTensor((0..<300).map { Int32([0, 3, 4_999, ($0 * 37 + salt) % 900][$0 % 4]) })
    }

    private func gradients(_ table: Embedding, salt: Int = 0) -> Gradients {
        let tape = Tape(mode: .training)
        let rows = table(ids(salt), on: tape)
        return tape.gradients(of: (rows * rows * rows).sum())
    }

    @Test func isThatOfTheWholeTable() throws {
        let table = table()
        let gradients = gradients(table)
        let held = try #require(gradients.held(for: table.weight))
        let rows = try #require(SomeRows.held(by: held))
        #expect(held.count == rows.rows.count * size && rows.rows.count < 230)
        let whole = try #require(gradients[table.weight])
        var expected = [Float](repeating: 0, count: count * size)
        for id in ids(0).elements where id != 3 {
            for column in 0..<size {
                let x = table.weight.value.span[Int(id) * size + column]
                expected[Int(id) * size + column] += 3 * x * x
            }
        }
        for (a, b) in zip(whole.elements, expected) { #expect(abs(a - b) <= 1e-5 * abs(b)) }
        #expect(rows.gathered(whole).isIdentical(to: held))
    }

    @Test func partsOfABatchAddUp() throws {
        let table = table()
        var sum = Gradients()
        for salt in 0..<2 {
            let tape = Tape(mode: .training)
            let rows = table(ids(salt), on: tape)
            tape.addGradients(of: (rows * rows * rows).sum(), to: &sum)
        }
        let parts = try (0..<2).map { try #require(gradients(table, salt: $0)[table.weight]) }
        let whole = try #require(sum[table.weight])
        #expect(whole.isIdentical(to: Kernels.add(parts[0], parts[1])))
    }

    @Test(arguments: ["sgd", "adamw", "adam", "adagrad", "rmsprop"])
    func optimizersTakeTheSameSteps(_ name: String) {
        func values(isWhole: Bool) -> [Tensor] {
            let table = table()
            let parameters = ParameterSet([("table", table.weight)])
            var optimizer: any Optimizer =
                switch name {
                case "sgd": SGD(momentum: 0.9)
                case "adam": Adam()
                case "adagrad": AdaGrad()
                case "rmsprop": RMSProp()
                default: AdamW()
                }
            for step in 0..<4 {
                var gradients = gradients(table, salt: 200 * step)
                if isWhole { gradients[table.weight] = gradients[table.weight] }
                optimizer.update(parameters, with: gradients, rate: 1e-2)
            }
            return [table.weight.value]
                + optimizer.state.slots.sorted { $0.key < $1.key }
                .compactMap { $0.value["table"] }
        }
        for (a, b) in zip(values(isWhole: true), values(isWhole: false)) {
            #expect(a.isIdentical(to: b))
        }
    }

    @Test func clippingScalesTheRows() throws {
        let table = table()
        let parameters = ParameterSet([("table", table.weight)])
        var (some, whole) = (gradients(table), gradients(table))
        whole[table.weight] = whole[table.weight]
        let norms = (
            GradientClipping.norm(1e-3).apply(to: &some, of: parameters),
            GradientClipping.norm(1e-3).apply(to: &whole, of: parameters)
        )
        #expect(abs(norms.0 - norms.1) <= 1e-6 * norms.1 && norms.1 > 1e-3)
        let (a, b) = (try #require(some[table.weight]), try #require(whole[table.weight]))
        for (a, b) in zip(a.elements, b.elements) { #expect(abs(a - b) <= 1e-5 * abs(b)) }
    }
}
