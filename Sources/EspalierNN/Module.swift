public import EspalierEngine

/// A part of a model: a struct of `let` parameters and sublayers.
public protocol Module: Sendable {
    /// Names every child, one line each. The names are the checkpoint's keys.
    func visit(_ visitor: inout some ModuleVisitor)
}

/// A module that is called like a function.
public protocol Layer: Module {
    /// The layer's output for `x`, recorded on its tape.
    func callAsFunction(_ x: Value) -> Value
}

/// Someone who walks over a module's children.
public protocol ModuleVisitor {
    /// Meets a trainable tensor.
    mutating func visit(_ name: String, _ parameter: Parameter)
    /// Meets a tensor that is not trained.
    mutating func visit(_ name: String, _ buffer: Buffer)
    /// Meets a submodule; its children have `name.` before theirs.
    mutating func visit(_ name: String, _ module: some Module)
}

/// The parameters and buffers of a module in the order of its `visit`, walked once.
public struct ParameterSet: Sendable {
    /// A parameter under its full name.
    public struct Entry: Sendable {
        /// Dotted, such as `conv1.weight`.
        public let name: String
        /// The parameter.
        public let parameter: Parameter
    }

    /// The parameters in order.
    public private(set) var entries: [Entry] = []
    /// The buffers in order.
    public private(set) var buffers: [(name: String, buffer: Buffer)] = []

    /// The parameters and buffers of a module.
    public init(_ module: some Module) {
        var walker = Walker(found: self, prefix: "")
        module.visit(&walker)
        self = walker.found
    }

    /// A set of parameters without a module.
    public init(_ entries: [(name: String, parameter: Parameter)]) {
        self.entries = entries.map { Entry(name: $0.name, parameter: $0.parameter) }
    }

    /// The parameter of that name.
    public subscript(name: String) -> Parameter? {
        entries.first { $0.name == name }?.parameter
    }

    private struct Walker: ModuleVisitor {
        var found: ParameterSet
        var prefix: String

        mutating func visit(_ name: String, _ parameter: Parameter) {
            found.entries.append(Entry(name: prefix + name, parameter: parameter))
        }

        mutating func visit(_ name: String, _ buffer: Buffer) {
            found.buffers.append((prefix + name, buffer))
        }

        mutating func visit(_ name: String, _ module: some Module) {
            var inner = Walker(found: found, prefix: prefix + name + ".")
            module.visit(&inner)
            found = inner.found
        }
    }
}
