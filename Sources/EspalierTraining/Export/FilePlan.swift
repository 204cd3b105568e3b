public import EspalierCodec
import EspalierRuntime
import EspalierTensors

/// What the runtime does with a file, step by step, as text for people.
public struct FilePlan: CustomStringConvertible {
    public let description: String

    /// Plans a file.
    ///
    /// - Parameter calls: How often the steps run to be timed, on one thread; nil for no times.
    /// - Throws: `FileError` where the file is missing or damaged.
    public init(file: String, batch: Int, calls: Int? = nil) throws(FileError) {
        let model: Model
        do {
            model = try Model(path: file)
        } catch {
            throw FileError(path: file, "\(error)")
        }
        let report = model.report(batch: batch, calls: calls ?? 0)
        var table = [["step", "kernel", "reads", "writes", "bytes", "live blocks"]]
        if calls != nil { table[0] += ["us", "share"] }
        let total = report.rows.reduce(0) { $0 + ($1.nanoseconds ?? 0) }
        func slots(_ slots: [Int]) -> String {
            slots.map { $0 < 0 ? "input" : "\($0)" }.joined(separator: " ")
        }
        for row in report.rows {
            var cells = [
                row.name, row.kernel, slots(row.reads), slots(row.writes), "\(row.bytes)",
                row.live.map { "\($0.count) of \($0.all)" } ?? "",
            ]
            if let nanoseconds = row.nanoseconds {
                let share = total > 0 ? 100 * nanoseconds / total : 0
                cells += ["\(nanoseconds.rounded() / 1000)", "\(Int(share.rounded())) %"]
            }
            table.append(cells)
        }
        var lines = [
            "\(file), \(ISA.current.rawValue): columns of \(report.capacity) examples, "
                + "\(report.bytes) bytes of memory each"
        ]
        lines += Table.lines(table, rightFrom: 4)
        if calls != nil { lines.append("all steps: \(total.rounded() / 1000) us a column") }
        description = lines.joined(separator: "\n")
    }
}
