public import EspalierEngine
public import EspalierTensors

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
    /// Further names of parameters that were met again, such as tied weights, with the name that they have here.
    public private(set) var aliases: [String: String] = [:]
    private var firstNames: [ObjectIdentifier: String] = [:]

    /// The parameters and buffers of a module.
    public init(_ module: some Module) {
        var walker = Walker(found: self, prefix: "")
        module.visit(&walker)
        self = walker.found
    }

    /// A set of parameters without a module.
    public init(_ entries: [(name: String, parameter: Parameter)]) {
        for entry in entries { add(entry.name, entry.parameter) }
    }

    // A parameter is one, however many names it has: an optimizer must meet it once.
    private mutating func add(_ name: String, _ parameter: Parameter) {
        if let first = firstNames.updateValue(name, forKey: ObjectIdentifier(parameter)) {
            firstNames[ObjectIdentifier(parameter)] = first
            aliases[name] = first
        } else {
            entries.append(Entry(name: name, parameter: parameter))
        }
    }

    /// The parameter of that name, be it a further one.
    public subscript(name: String) -> Parameter? {
        let name = aliases[name] ?? name
        return entries.first { $0.name == name }?.parameter
    }

    /// Gives each parameter the tensor of its name, or of a further one.
    ///
    /// - Returns: The names for which there is no tensor; these parameters stay as they are.
    /// - Throws: What `tensor` throws, and `ParameterError` where a shape is another; some have been assigned then.
    @discardableResult
    public func assign(_ tensor: (String) throws -> Tensor?) throws -> [String] {
        var missing: [String] = []
        for entry in entries {
            var found = try tensor(entry.name)
            for (name, first) in aliases where found == nil && first == entry.name {
                found = try tensor(name)
            }
            guard let value = found else {
                missing.append(entry.name)
                continue
            }
            guard value.shape == entry.parameter.shape else {
                throw ParameterError(
                    "'\(entry.name)' has shape \(entry.parameter.shape), not \(value.shape)")
            }
            entry.parameter.assign(value)
        }
        return missing
    }

    private struct Walker: ModuleVisitor {
        var found: ParameterSet
        var prefix: String

        mutating func visit(_ name: String, _ parameter: Parameter) {
            found.add(prefix + name, parameter)
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

/// A tensor that is not what a parameter needs.
public struct ParameterError: Error, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
