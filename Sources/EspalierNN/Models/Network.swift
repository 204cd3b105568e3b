public import EspalierEngine
public import EspalierTensors

/// A classifier: a stack of layers that ends in a head with one output a class.
public struct Network: Layer {
    /// What it is made of.
    public let architecture: Architecture
    /// The shape of one example, such as [H, W, C].
    public let input: Shape
    /// The number of outputs.
    public let classes: Int

    private let body: [(name: String, step: Step)]
    private let head: Linear

    private enum Step: Sendable {
        case layer(any Layer)
        case relu
        case dropout(Float)
        case flatten
    }

    /// A network with parameters drawn from `random`, each from a child of its own name.
    ///
    /// - Throws: `ArchitectureError` where the input is too small for the layers, or the layers too large.
    public init(
        _ architecture: Architecture, input: Shape, classes: Int, random: RandomStream
    ) throws(ArchitectureError) {
        _ = try architecture.parameterCount(input: input, classes: classes)
        self.architecture = architecture
        self.input = input
        self.classes = classes
        var body: [(String, Step)] = []
        var features: Int
        func add(linear name: String, _ outputs: Int, dropout: Float) {
            let layer = Linear(inputs: features, outputs: outputs, random: random.child(name))
            body += [(name, .layer(layer)), ("", .relu), ("", .dropout(dropout))]
            features = outputs
        }
        switch architecture {
        case .convnet(let channels, let hidden, let dropout, let isFolded):
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
                body += [("", .relu), ("", .layer(MaxPool2D(kernel: 2)))]
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
        }
        self.body = body
        head = Linear(
            inputs: features, outputs: classes, initializer: .uniform, random: random.child("head"))
    }

    public func callAsFunction(_ x: Value) -> Value {
        var x = x
        for (_, step) in body {
            switch step {
            case .layer(let layer): x = layer(x)
            case .relu: x = x.relu()
            case .dropout(let probability): x = x.dropout(probability)
            case .flatten: x = x.flattened()
            }
        }
        return head(x)
    }

    public func visit(_ visitor: inout some ModuleVisitor) {
        for (name, step) in body {
            if case .layer(let layer) = step, !name.isEmpty { visitor.visit(name, layer) }
        }
        visitor.visit("head", head)
    }
}

extension Network {
    /// The same function in evaluation mode without norms: each is folded into the convolution before it.
    ///
    /// Masks and their locks are kept; what is not folded is copied.
    ///
    /// - Throws: `ArchitectureError` where the network has no norms to fold.
    public func folded() throws(ArchitectureError) -> Network {
        guard case .convnet(let channels, let hidden, let dropout, false) = architecture else {
            throw ArchitectureError("the network has no norms to fold")
        }
        let result = try Network(
            .convnet(channels: channels, hidden: hidden, dropout: dropout, isFolded: true),
            input: input, classes: classes, random: RandomStream(seed: 0))
        let (own, target) = (ParameterSet(self), ParameterSet(result))
        for entry in target.entries {
            guard let source = own[entry.name] else { continue }
            entry.parameter.assign(source.value)
            if let mask = source.mask { entry.parameter.setMask(mask) }
        }
        for (name, step) in body {
            guard case .layer(let layer) = step, let norm = layer as? BatchNorm else { continue }
            let convolution = "conv" + name.dropFirst("norm".count)
            guard let weight = own[convolution + ".weight"]?.value else { continue }
            let folded = norm.folded(into: weight, bias: nil)
            target[convolution + ".weight"]?.assign(folded.weight)
            target[convolution + ".bias"]?.assign(folded.bias)
        }
        for entry in target.entries where own[entry.name]?.isMaskLocked ?? false {
            entry.parameter.lockMask()
        }
        return result
    }
}
