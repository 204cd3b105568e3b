import CEspalierKernels
public import EspalierEngine
import EspalierKernels
import EspalierTensors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Adam (Kingma and Ba, ICLR 2015): g += decay * w; w -= rate * m̂ / (sqrt(v̂) + epsilon) with bias-corrected moments.
///
/// With `keepsLargest` the largest second moment so far stands for v (AMSGrad: Reddi, Kale and Kumar, "On the
/// convergence of Adam and beyond", ICLR 2018).
public struct Adam: Optimizer {
    /// Decay of the first moment.
    public var beta1: Float
    /// Decay of the second moment.
    public var beta2: Float
    /// Added to the root of the second moment.
    public var epsilon: Float
    /// Added to the gradient as this times the weight.
    public var weightDecay: Float
    /// Whether the second moment never falls.
    public var keepsLargest: Bool
    /// Per parameter name.
    public var options: [String: ParameterOptions]
    public var state = OptimizerState()
    public var momentum: Float {
        get { beta1 }
        set { beta1 = newValue }
    }

    /// A rule at its first step.
    public init(
        beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0,
        keepsLargest: Bool = false, options: [String: ParameterOptions] = [:]
    ) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.keepsLargest = keepsLargest
        self.options = options
    }

    public mutating func update(
        _ parameters: ParameterSet, with gradients: Gradients, rate: Float
    ) {
        state.step += 1
        let (beta1, beta2, epsilon, decay, options) = (beta1, beta2, epsilon, weightDecay, options)
        let correction = MomentCorrection(beta1: beta1, beta2: beta2, step: state.step)
        step(parameters, gradients, slots: ["first", "second", keepsLargest ? "largest" : nil]) {
            name, _ in
            let own = options[name] ?? ParameterOptions()
            return .adam(
                esp_adam(
                    beta1: beta1, beta2: beta2, epsilon: epsilon, decay: own.weightDecay ?? decay,
                    step: Float(Double(rate * own.rateFactor) / correction.first),
                    root: correction.root))
        }
    }
}

/// What Adam's moments lack in the first steps, as both begin with 0.
struct MomentCorrection {
    /// The first moment is to be divided by it.
    let first: Double
    /// The root of the second moment is to be divided by it.
    let root: Float

    init(beta1: Float, beta2: Float, step: Int) {
        first = 1 - pow(Double(beta1), Double(step))
        root = Float((1 - pow(Double(beta2), Double(step))).squareRoot())
    }
}
