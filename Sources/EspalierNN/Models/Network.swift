public import EspalierEngine
import EspalierGraph
public import EspalierTensors

/// A classifier: a stack of layers that ends in a head with one output a class.
public struct Network: Layer {
    /// What it is made of.
    public let architecture: Architecture
    /// The shape of one example, such as [H, W, C].
    public let input: Shape
    /// The number of outputs.
    public let classes: Int
    /// How its numbers become codes; nil for floats.
    public let quantization: NetworkQuantization?

    let body: [(name: String, step: Step)]
    private let head: Linear

    enum Step: Sendable {
        case layer(any Layer)
        case relu
        case dropout(Float)
        case flatten
    }

    /// A network with parameters drawn from `random`, each from a child of its own name.
    ///
    /// - Throws: `ArchitectureError` where the input is too small for the layers, the layers too large, or a network with
    ///   norms would be quantized.
    public init(
        _ architecture: Architecture, input: Shape, classes: Int,
        quantization: NetworkQuantization? = nil, random: RandomStream
    ) throws(ArchitectureError) {
        _ = try architecture.parameterCount(input: input, classes: classes)
        self.architecture = architecture
        self.input = input
        self.classes = classes
        self.quantization = quantization
        try quantization?.check()
        var body: [(String, Step)] = []
        var features: Int
        // Before pooling, whose largest values keep their codes, and before dropout, whose factors have none.
        func addSite(_ name: String) {
            guard let quantization else { return }
            let site = QuantizationSite(quantization.activations)
            body.append((name + "_site", .layer(site)))
        }
        func add(linear name: String, _ outputs: Int, dropout: Float) {
            let layer = Linear(inputs: features, outputs: outputs, random: random.child(name))
            body += [(name, .layer(layer)), ("", .relu)]
            addSite(name)
            body.append(("", .dropout(dropout)))
            features = outputs
        }
        addSite("input")
        switch architecture {
        case .convnet(let channels, let hidden, let dropout, let isFolded):
            guard isFolded || quantization == nil else {
                throw ArchitectureError("norms are folded before a network is quantized")
            }
            var (height, width, inputs) = (input[0], input[1], input[2])
            features = 0
            for (index, outputs) in channels.enumerated() {
                let name = "conv\(index + 1)"
                let convolution = Convolution2D(
                    inputs: inputs, outputs: outputs, kernel: 3, padding: 1, bias: isFolded,
                    random: random.child(name))
                body.append((name, .layer(convolution)))
                if !isFolded {
                    body.append(("norm\(index + 1)", .layer(BatchNorm(channels: outputs))))
                }
                body.append(("", .relu))
                addSite(name)
                body.append(("", .layer(MaxPool2D(kernel: 2))))
                (height, width, inputs) = (height / 2, width / 2, outputs)
            }
            body.append(("", .flatten))
            features = height * width * inputs
            if hidden > 0 { add(linear: "hidden", hidden, dropout: dropout) }
        case .mlp(let hidden, let dropout):
            body.append(("", .flatten))
            features = input.elementCount
            for (index, outputs) in hidden.enumerated() {
                add(linear: "hidden\(index + 1)", outputs, dropout: dropout)
            }
        case .resnet(let depth):
            guard quantization == nil else {
                throw ArchitectureError("a resnet is not quantized: its norms stay in its blocks")
            }
            body = Network.residual(depth: depth, input: input, random)
            features = Architecture.residualChannels.last ?? 0
        }
        self.body = body
        head = Linear(
            inputs: features, outputs: classes, initializer: .uniform, random: random.child("head"))
        for entry in ParameterSet(self).entries where entry.parameter.shape.rank >= 2 {
            entry.parameter.quantization = quantization?.weights
        }
    }

    private static func residual(
        depth: Int, input: Shape, _ random: RandomStream
    ) -> [(String, Step)] {
        var inputs = Architecture.residualChannels[0]
        let first = Convolution2D(
            inputs: input[2], outputs: inputs, kernel: 3, padding: 1, bias: false,
            random: random.child("conv"))
        var body: [(String, Step)] = [
            ("conv", .layer(first)), ("norm", .layer(BatchNorm(channels: inputs))), ("", .relu),
        ]
        var (height, width) = (input[0], input[1])
        for (stage, outputs) in Architecture.residualChannels.enumerated() {
            for block in 0..<(depth - 2) / 6 {
                let name = "stage\(stage + 1).block\(block + 1)"
                let stride = stage > 0 && block == 0 ? 2 : 1
                let layer = ResidualBlock(
                    inputs: inputs, outputs: outputs, stride: stride, random: random.child(name))
                body.append((name, .layer(layer)))
                (height, width) = ((height + stride - 1) / stride, (width + stride - 1) / stride)
                inputs = outputs
            }
        }
        body.append(("", .layer(GlobalAveragePool(height: height, width: width))))
        return body
    }

    public func callAsFunction(_ x: Value) -> Value {
        head(segments.reduce(x) { x, part in x.tape.segment([x]) { run(part, on: $0[0]) } })
    }

    private func run(_ part: Range<Int>, on x: Value) -> Value {
        var x = x
        var rest = body[part]
        while let (_, step) = rest.popFirst() {
            switch step {
            case .layer(let layer): x = Network.apply(layer, to: x, &rest)
            case .relu: x = x.relu()
            case .dropout(let probability): x = x.dropout(probability)
            case .flatten: x = x.flattened()
            }
        }
        return x
    }

    /// What a tape that recomputes computes again at once: a layer with parameters and what follows it up to the next.
    private var segments: [Range<Int>] {
        let starts =
            [0]
            + body.indices.dropFirst().filter {
                if case .layer(let layer) = body[$0].step {
                    return layer is Linear || layer is Convolution2D || layer is ResidualBlock
                }
                return false
            }
        return zip(starts, starts.dropFirst() + [body.count]).map { $0..<$1 }
    }

    // ReLU, and 2x2 pooling behind it, in the pass of the layer before them.
    private static func apply(
        _ layer: any Layer, to x: Value, _ rest: inout ArraySlice<(name: String, step: Step)>
    ) -> Value {
        guard case .relu? = rest.first?.step else { return layer(x) }
        if let norm = layer as? BatchNorm {
            rest.removeFirst()
            return norm(x, relu: true)
        }
        if let linear = layer as? Linear {
            rest.removeFirst()
            return linear(x, .relu)
        }
        guard let convolution = layer as? Convolution2D else { return layer(x) }
        rest.removeFirst()
        if case .layer(let next)? = rest.first?.step, (next as? MaxPool2D)?.kernel == 2 {
            rest.removeFirst()
            return convolution(x, activation: .pooledReLU)
        }
        return convolution(x, activation: .relu)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        for (name, step) in body {
            if case .layer(let layer) = step, !name.isEmpty { visitor.visit(name, layer) }
        }
        visitor.visit("head", head)
    }
}
