package import CEspalierKernels
package import EspalierTensors

extension Op {
    /// A function of each element.
    package struct Unary: Operation {
        package enum Function: Sendable, Hashable {
            case abs, negate
            case exp
            /// exp(x) - 1
            case expm1
            case log
            /// log(1 + x)
            case log1p
            case sqrt
            /// 1 / sqrt(x)
            case rsqrt
            case reciprocal, square, sin, cos, tanh, sigmoid, erf
            /// x Φ(x). Hendrycks and Gimpel, "Gaussian error linear units", 2016.
            case gelu
            /// The same with tanh for erf: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
            case geluTanh
            /// x sigmoid(x)
            case silu
            /// x clamp(x + 3, 0, 6) / 6
            case hardSwish
            /// log(1 + exp(beta x)) / beta
            case softplus(beta: Float)
            /// x above 0, else alpha (exp(x) - 1)
            case elu(alpha: Float)
            /// x above 0, else slope x
            case leakyReLU(slope: Float)
            case power(Float)
            /// The gradient passes strictly between the bounds; an infinite one is none.
            case clamp(Float, Float)
        }

        package let function: Function

        package init(_ function: Function) { self.function = function }

        package func outputShape(_ inputs: [Shape]) -> Shape { inputs[0] }
    }

    /// A function of two operands with broadcasting.
    package struct Binary: Operation {
        package enum Function: Sendable, Hashable {
            case subtract, multiply, divide, power
            /// On a tie each side takes half of the gradient.
            case maximum, minimum
        }

        package let function: Function

        package init(_ function: Function) { self.function = function }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard let shape = inputs[0].broadcast(with: inputs[1]) else {
                throw ShapeError(
                    "\(function.name): shapes \(inputs[0]) and \(inputs[1]) cannot be broadcast")
            }
            return shape
        }
    }

    /// a where the condition is not 0, else b, with broadcasting. Operands: condition, a, b; no gradient flows to the
    /// condition.
    package struct Select: Operation {
        package init() {}

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard let values = inputs[1].broadcast(with: inputs[2]),
                let shape = inputs[0].broadcast(with: values)
            else {
                throw ShapeError(
                    "select: a condition of shape \(inputs[0]), \(inputs[1]) and \(inputs[2]) "
                        + "cannot be broadcast")
            }
            return shape
        }
    }

    /// A constant where the mask is not 0, else x. Operands: x and a mask that can be broadcast to it, which gets no
    /// gradient.
    package struct Fill: Operation {
        package let value: Float

        package init(value: Float) { self.value = value }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            guard inputs[1].broadcastStrides(to: inputs[0]) != nil else {
                throw ShapeError("fill: a mask of shape \(inputs[1]) for \(inputs[0])")
            }
            return inputs[0]
        }
    }
}

extension Op.Unary.Function {
    /// The kernels' name for it, whose number is the frozen one; its parameters; and its name in golden files.
    private var line: (code: esp_unary, parameters: [Float], name: String) {
        switch self {
        case .abs: (ESP_ABS, [], "abs")
        case .negate: (ESP_NEGATE, [], "neg")
        case .exp: (ESP_EXP, [], "exp")
        case .expm1: (ESP_EXPM1, [], "expm1")
        case .log: (ESP_LOG, [], "log")
        case .log1p: (ESP_LOG1P, [], "log1p")
        case .sqrt: (ESP_SQRT, [], "sqrt")
        case .rsqrt: (ESP_RSQRT, [], "rsqrt")
        case .reciprocal: (ESP_RECIPROCAL, [], "reciprocal")
        case .square: (ESP_SQUARE, [], "square")
        case .sin: (ESP_SIN, [], "sin")
        case .cos: (ESP_COS, [], "cos")
        case .tanh: (ESP_TANH, [], "tanh")
        case .sigmoid: (ESP_SIGMOID, [], "sigmoid")
        case .erf: (ESP_ERF, [], "erf")
        case .gelu: (ESP_GELU, [], "gelu_erf")
        case .geluTanh: (ESP_GELU_TANH, [], "gelu_tanh")
        case .silu: (ESP_SILU, [], "silu")
        case .hardSwish: (ESP_HARD_SWISH, [], "hardswish")
        case .softplus(let beta): (ESP_SOFTPLUS, [beta], "softplus")
        case .elu(let alpha): (ESP_ELU, [alpha], "elu")
        case .leakyReLU(let slope): (ESP_LEAKY_RELU, [slope], "leaky_relu")
        case .power(let exponent): (ESP_POWER, [exponent], "pow_scalar")
        case .clamp(let low, let high): (ESP_CLAMP, [low, high], "clamp")
        }
    }

    package var code: esp_unary { line.code }
    /// The frozen number.
    package var number: Int { Int(code.rawValue) }
    package var parameters: [Float] { line.parameters }
    package var name: String { line.name }

    private static let plain: [Self] = [
        .abs, .negate, .exp, .expm1, .log, .log1p, .sqrt, .rsqrt, .reciprocal, .square, .sin, .cos,
        .tanh, .sigmoid, .erf, .gelu, .geluTanh, .silu, .hardSwish,
    ]

    /// One of each, with parameters that are usual.
    package static let all: [Self] =
        plain + [
            .softplus(beta: 1), .elu(alpha: 1), .leakyReLU(slope: 0.01), .power(2), .clamp(-1, 1),
        ]

    /// The function of a frozen number, nil where there is none or the parameters are not its own.
    package init?(number: Int, parameters: [Float]) {
        guard let line = Self.all.first(where: { $0.number == number }),
            line.parameters.count == parameters.count, !parameters.contains(where: \.isNaN)
        else { return nil }
        switch line {
        case .softplus: self = .softplus(beta: parameters[0])
        case .elu: self = .elu(alpha: parameters[0])
        case .leakyReLU: self = .leakyReLU(slope: parameters[0])
        case .power: self = .power(parameters[0])
        case .clamp: self = .clamp(parameters[0], parameters[1])
        default: self = line
        }
    }
}

extension Op.Binary.Function {
    private var line: (code: esp_binary, name: String, onnx: String) {
        switch self {
        case .subtract: (ESP_SUBTRACT, "sub", "Sub")
        case .multiply: (ESP_MULTIPLY, "mul", "Mul")
        case .divide: (ESP_DIVIDE, "div", "Div")
        case .power: (ESP_POW, "pow", "Pow")
        case .maximum: (ESP_MAXIMUM, "maximum", "Max")
        case .minimum: (ESP_MINIMUM, "minimum", "Min")
        }
    }

    /// The kernels' name for it, whose number is the frozen one.
    package var code: esp_binary { line.code }
    /// The frozen number.
    package var number: Int { Int(code.rawValue) }
    package var name: String { line.name }
    var onnx: String { line.onnx }

    /// All of them.
    package static let all: [Self] = [
        .subtract, .multiply, .divide, .power, .maximum, .minimum,
    ]

    /// The function of a frozen number.
    package init?(number: Int) {
        guard let function = Self.all.first(where: { $0.number == number }) else {
            return nil
        }
        self = function
    }
}

extension Op.Unary.Function {
    /// Of the ONNX operator that does the same, where there is one.
    var onnx: String? {
        switch self {
        case .abs: "Abs"
        case .negate: "Neg"
        case .exp: "Exp"
        case .log: "Log"
        case .sqrt: "Sqrt"
        case .reciprocal: "Reciprocal"
        case .sin: "Sin"
        case .cos: "Cos"
        case .tanh: "Tanh"
        case .sigmoid: "Sigmoid"
        case .erf: "Erf"
        case .gelu, .geluTanh: "Gelu"
        case .hardSwish: "HardSwish"
        case .softplus: "Softplus"
        case .elu: "Elu"
        case .leakyReLU: "LeakyRelu"
        case .power: "Pow"
        case .clamp: "Clip"
        case .expm1, .log1p, .rsqrt, .square, .silu: nil
        }
    }
}
