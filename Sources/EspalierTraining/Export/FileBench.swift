public import EspalierCodec
import EspalierGraph
import EspalierRuntime
import EspalierTensors

/// How fast a file runs, beside the same network in dense floats.
public struct FileBench: CustomStringConvertible {
    /// A batch size with the medians of both, in milliseconds.
    public struct Row: Sendable {
        public let batch: Int
        public let milliseconds: Double
        /// Nil where nothing was compared.
        public let dense: Double?
    }

    public let rows: [Row]
    /// What reading the file and making a model of it took, in milliseconds.
    public let opening: Double
    private let file: String
    private let bytes: Int

    /// Measures a file.
    ///
    /// - Parameter comparesDense: Whether the same network with its weights as dense floats runs in turn.
    /// - Throws: `FileError` where the file is missing or damaged.
    public init(file: String, batches: [Int], calls: Int, comparesDense: Bool) throws(FileError) {
        let content: [UInt8]
        var models: [Model] = []
        do {
            let clock = ContinuousClock()
            let start = clock.now
            content = try FileAccess.read(file)
            let graph = try GraphFile(content).graph()
            models = [try Model(graph)]
            let elapsed = (clock.now - start).components
            opening = 1000 * (Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
            if comparesDense { models.append(try Model(graph.inFloats)) }
        } catch let error as FileError {
            throw error
        } catch {
            throw FileError(path: file, "\(error)")
        }
        rows = batches.map { batch in
            let times = Latency.measure(models, batch: batch, calls: calls)
            return Row(batch: batch, milliseconds: times[0], dense: times.dropFirst().first)
        }
        self.file = file
        bytes = content.count
    }

    public var description: String {
        var table = [["batch", "ms", "examples/s"]]
        if rows.contains(where: { $0.dense != nil }) { table[0] += ["dense float ms", "times"] }
        func text(_ value: Double, _ digits: Double) -> String {
            "\((value * digits).rounded() / digits)"
        }
        for row in rows {
            var cells = [
                "\(row.batch)", text(row.milliseconds, 1e4),
                text(Double(row.batch) / row.milliseconds * 1000, 1),
            ]
            if let dense = row.dense {
                cells += [text(dense, 1e4), text(dense / row.milliseconds, 100)]
            }
            table.append(cells)
        }
        return
            ([
                "\(file), \(bytes) bytes, \(ISA.current.rawValue), \(Machine.threads) threads",
                "opened in \(text(opening, 1e3)) ms",
            ]
            + Table.lines(table, rightFrom: 0)).joined(separator: "\n")
    }
}

extension Graph {
    /// The same network in dense floats: no grids, no masks, integer weights as the values that they stand for.
    var inFloats: Graph {
        var result = self
        result.input.quantization = nil
        for index in nodes.indices {
            result.nodes[index].quantization = nil
            guard case .constant(let weight)? = nodes[index].operands.dropFirst().first,
                case .codes(let codes) = constants[weight].value
            else { continue }
            result.constants[weight] = Constant(
                name: constants[weight].name, value: .floats(codes.dequantized))
            guard case .constant(let bias)? = nodes[index].operands.dropFirst(2).first,
                let values = floatBias(of: index)
            else { continue }
            // Its own: another layer may count the same numbers in other units.
            result.nodes[index].operands[2] = .constant(result.constants.count)
            result.constants.append(Constant(name: constants[bias].name, value: .floats(values)))
        }
        return result
    }
}
