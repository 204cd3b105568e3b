public import EspalierCodec
import EspalierGraph
import EspalierInterchange
import EspalierTensors

/// What a file holds, as text for people: a `.espalier` file or a safetensors file.
public struct FileInspection: CustomStringConvertible {
    public let description: String

    /// Looks into a file; of a `.espalier` file only its headers are read.
    ///
    /// - Throws: `FileError` where it is missing or damaged.
    public init(_ path: String) throws(FileError) {
        guard path.hasSuffix(".espalier") else {
            description = try FileInspection.safeTensors(path)
            return
        }
        let bytes = try FileBytes(path)
        do throws(ContainerError) {
            description = FileInspection.text(path, try GraphFile(bytes))
        } catch {
            throw FileError(path: path, "\(error)")
        }
    }

    private static func text(_ path: String, _ file: GraphFile<FileBytes>) -> String {
        let sizes = file.reader.sizes
        var lines = [
            "\(path), \(sizes.total) bytes"
                + (file.producer.map { ", written by \($0)" } ?? ""),
            "input \(file.input.example)\(grid(file.input.quantization))",
        ]
        var rows = [["id", "layer", "op", "inputs", "tensors", "gives", "data", "headers"]]
        for (layer, (node, size)) in zip(file.reader.layers, zip(file.nodes, sizes.layers)) {
            let tensors = layer.header.subLayers.map { part in
                "\(part.kind) \(part.type)\(Shape(part.dims.map { Int($0) }))"
                    + (part.coding == .live ? " live" : "")
            }
            let activation = node.activation == .relu ? "relu" : ""
            rows.append([
                "\(layer.header.id)", layer.header.name, node.op.entry.name,
                layer.header.inputs.map { "\($0.layer)" }.joined(separator: " "),
                tensors.joined(separator: ", "),
                [activation, grid(node.quantization)].joined(separator: " "),
                "\(size.data.values.reduce(0, +))", "\(size.headers)",
            ])
        }
        lines += Table.lines(rows, rightFrom: 6)
        lines.append(
            "bytes: "
                + ContainerNetwork.Kind.allCases.compactMap { kind in
                    let count = sizes.data(kind)
                    return count > 0 ? "\(kind) \(count)" : nil
                }.joined(separator: ", ")
                + ", headers \(sizes.headers), padding \(sizes.padding)")
        if let said = file.description { lines.append(String(decoding: said, as: UTF8.self)) }
        return lines.joined(separator: "\n")
    }

    private static func grid(_ grid: QuantizationParameters?) -> String {
        guard let grid, grid.scales.count == 1 else { return "" }
        let sign = grid.scheme.isSigned ? "i" : "u"
        return " \(sign)\(grid.scheme.bits) scale \(grid.scales[0]) zero \(grid.zeroPoints[0])"
    }

    private static func safeTensors(_ path: String) throws(FileError) -> String {
        let file = try SafeTensors(contentsOf: path)
        var rows = [["tensor", "type", "shape"]]
        for (name, entry) in file.entries.sorted(by: { $0.key < $1.key }) {
            rows.append([name, entry.type.rawValue, "\(entry.shape)"])
        }
        let metadata = file.metadata.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        return ([path] + Table.lines(rows) + metadata).joined(separator: "\n")
    }
}

/// Text in columns.
enum Table {
    /// The rows with their cells padded to equal widths.
    ///
    /// - Parameter column: The first of the columns that are set to the right.
    static func lines(_ rows: [[String]], rightFrom column: Int = .max) -> [String] {
        guard let first = rows.first else { return [] }
        let widths = first.indices.map { index in rows.map { $0[index].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).enumerated().map { index, cell in
                let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                return index >= column ? padding + cell.0 : cell.0 + padding
            }
            var line = cells.joined(separator: "  ")
            while line.hasSuffix(" ") { line.removeLast() }
            return line
        }
    }
}
