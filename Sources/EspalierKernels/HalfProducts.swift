import CEspalierKernels
import EspalierTensors

/// How products whose factors are rounded to bfloat16 are computed.
///
/// Both ways round the factors alike, half to even, and add in floats in the order of depth; each gives the same bytes on
/// any number of threads. Between them sums differ by the rounding of floats, and the CPU's own products take denormal
/// factors and sums as 0.
package enum HalfProducts: String, CaseIterable, Sendable {
    /// Multiplied as floats.
    case widened
    /// As pairs along the depth, by AVX512_BF16 where the kernels have it.
    case native

    /// Whether `native` is an instruction of this CPU and not two multiply-adds.
    package static var isInstruction: Bool { ISA.current == .vnni && esp_has_bf16() }

    /// The way for this CPU, or the one that `ESPALIER_BF16` names.
    ///
    /// A core of AMD's Zen 5 multiplies pairs at 434 to 445 GFLOP/s, 1.85 times as fast as floats; a Zen 4 was not measured.
    /// Intel's do so at half the rate of floats, 86 against 173 GFLOP/s on a core of an Emerald Rapids at 2.7 GHz.
    package static let current: HalfProducts = {
        guard let name = environment("ESPALIER_BF16") else {
            return isInstruction && esp_is_amd() ? .native : .widened
        }
        guard let way = HalfProducts(rawValue: name) else {
            let known = allCases.map(\.rawValue).joined(separator: ", ")
            endProcess("ESPALIER_BF16=\(name): unknown; one of \(known)")
        }
        guard way == .widened || isInstruction else {
            endProcess(
                "ESPALIER_BF16=\(name): the instruction set \(ISA.current) here does not have it")
        }
        return way
    }()

    /// The one in use. Threads of the pool do not see another value than the default.
    @TaskLocal package static var chosen = HalfProducts.current
}
