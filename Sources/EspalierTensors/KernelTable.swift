package import CEspalierKernels

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// An instruction set that the kernels are compiled for.
public enum ISA: String, CaseIterable, Sendable {
    case scalar, avx2, avx512, vnni

    /// Those that this CPU has, weakest first.
    public static var available: [ISA] {
        allCases.filter { unsafe KernelTable.table(for: $0) != nil }
    }

    /// The one in use: the strongest available, or the one that `ESPALIER_ISA` names.
    public static let current: ISA = {
        guard let name = environment("ESPALIER_ISA") else { return available.last ?? .scalar }
        guard let isa = ISA(rawValue: name) else {
            let known = allCases.map(\.rawValue).joined(separator: ", ")
            endProcess("ESPALIER_ISA=\(name): unknown; one of \(known)")
        }
        guard available.contains(isa) else {
            endProcess("ESPALIER_ISA=\(name): this CPU does not have it")
        }
        return isa
    }()
}

/// The C kernels of one ISA.
package enum KernelTable {
    /// The kernels of an ISA, nil where this CPU does not have it.
    package static func table(for isa: ISA) -> UnsafePointer<esp_kernels>? {
        switch isa {
        case .scalar: unsafe esp_kernels_for(ESP_ISA_SCALAR)
        case .avx2: unsafe esp_kernels_for(ESP_ISA_AVX2)
        case .avx512: unsafe esp_kernels_for(ESP_ISA_AVX512)
        case .vnni: unsafe esp_kernels_for(ESP_ISA_VNNI)
        }
    }

    // Never changes: a table of functions.
    /// The kernels of `ISA.current`.
    nonisolated(unsafe) package static let current: esp_kernels = {
        guard let table = unsafe table(for: .current) else { fatalError("no kernels for this CPU") }
        return unsafe table.pointee
    }()
}

/// The value of an environment variable.
package func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
}
