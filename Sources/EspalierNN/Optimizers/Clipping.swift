public import EspalierEngine
import EspalierKernels
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Keeps gradients from growing too large.
public enum GradientClipping: Sendable, Hashable {
    /// All gradients times min(1, limit / (norm + 1e-6)), norm being the Euclidean one of all together.
    case norm(Float)
    /// The same with the sum of the powers of all magnitudes, and its root of that degree.
    case powerNorm(Float, degree: Float)
    /// The same with the largest magnitude as the norm.
    case largest(Float)
    /// Each entry brought within ±limit.
    case value(Float)

    /// Clips the gradients of some parameters.
    ///
    /// - Returns: the norm before clipping; for `value`, the largest magnitude.
    @discardableResult
    public func apply(to gradients: inout Gradients, of parameters: ParameterSet) -> Float {
        let present = parameters.entries.filter { gradients.held(for: $0.parameter) != nil }
        // Rows that are not held are zero: no norm sees them, and no factor changes them.
        let tensors = present.compactMap { entry -> Tensor? in
            switch self {
            case .norm, .largest: gradients.held(for: entry.parameter)
            case .powerNorm, .value: gradients[entry.parameter]
            }
        }
        let norm: Float
        switch self {
        case .norm:
            norm = Float(Kernels.sumsOfSquares(tensors).reduce(0, +).squareRoot())
        case .powerNorm(_, let degree):
            let sum = tensors.reduce(0) { $0 + Kernels.sumOfPowers($1, Double(degree)) }
            norm = Float(pow(sum, 1 / Double(degree)))
        case .largest, .value:
            norm = tensors.reduce(0) {
                let magnitude = Kernels.largestMagnitude($1)
                return magnitude.isNaN || magnitude > $0 ? magnitude : $0
            }
        }
        for (entry, tensor) in zip(present, tensors) {
            switch self {
            case .norm(let limit), .largest(let limit), .powerNorm(let limit, _):
                let factor = limit / (norm + 1e-6)
                // `min` would take 1 where the norm is NaN.
                if factor < 1 || factor.isNaN {
                    gradients[entry.parameter] = Kernels.scale(tensor, by: factor)
                }
            case .value(let limit):
                let clipped = tensor.elements.map { $0.isNaN ? $0 : min(max($0, -limit), limit) }
                gradients[entry.parameter] = Tensor(clipped, shape: tensor.shape)
            }
        }
        return norm
    }
}
