import EspalierCodec
import EspalierEngine
import EspalierKernels
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// What the machine has and what was chosen for it.
public enum Machine {
    /// How many threads take part; results do not depend on it.
    public static var threads: Int {
        get { ThreadPool.shared.width }
        set { ThreadPool.shared.width = newValue }
    }

    /// Bytes of memory that this process holds now.
    public static var memoryInUse: Int {
        // The second field of statm is the number of resident pages.
        guard let text = try? text(of: "/proc/self/statm") else {
            return BufferPool.shared.statistics.reserved
        }
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }

    /// A page for people.
    public static var report: String {
        let wanted = environment("OPENBLAS_CORETYPE").map { "; OPENBLAS_CORETYPE=\($0) is ignored" }
        let own = environment("ESPALIER_BLAS_CORE").map {
            "; asked for by ESPALIER_BLAS_CORE=\($0)"
        }
        return """
            espalier \(Version.current)
            CPU                \(cpuName)
            cores              \(ThreadPool.coreCount), \(threads) in use (ESPALIER_THREADS, --threads)
            instruction sets   \(ISA.available.map(\.rawValue).joined(separator: ", "))
            kernels            \(ISA.current.rawValue) (ESPALIER_ISA)
            bf16 products      \(HalfProducts.current.rawValue) (ESPALIER_BF16)
            OpenBLAS core      \(BLAS.core)\(own ?? wanted ?? "")
            memory             \(memoryTotal)
            """
    }

    private static var cpuName: String {
        field("model name", of: "/proc/cpuinfo") ?? "unknown"
    }

    private static var memoryTotal: String {
        guard let text = field("MemTotal", of: "/proc/meminfo"),
            let kilobytes = text.split(separator: " ").first.flatMap({ Int($0) })
        else { return "unknown" }
        return "\(kilobytes >> 20) GiB"
    }

    private static func field(_ name: String, of path: String) -> String? {
        guard let text = try? text(of: path) else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            return String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        return nil
    }

    // Files under /proc have no size: they are read until they end.
    private static func text(of path: String) throws -> String {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(path: path, "cannot be opened") }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(descriptor, $0.baseAddress, $0.count)
        }
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }
}
