/// Collects what is wrong while a recipe is decoded: decoding goes on with a default, so that all problems are
/// found at once.
final class RecipeProblems {
    private(set) var all: [RecipeProblem] = []

    // More would not be read.
    private static let most = 100

    func add(_ message: String, at position: RecipePosition) {
        guard all.count < RecipeProblems.most else { return }
        let problem = RecipeProblem(position: position, message: message)
        // Defaults are decoded once a stage; their faults are told once.
        if !all.contains(problem) { all.append(problem) }
    }

    var isEmpty: Bool { all.isEmpty }

    func throwIfAny() throws {
        if !all.isEmpty { throw RecipeError(all) }
    }
}

/// A value with the place where it was written.
public struct Located<Value: Sendable>: Sendable {
    /// The value.
    public var value: Value
    /// Its place.
    public var position: RecipePosition
}

extension Located: Equatable where Value: Equatable {}

/// Reads the fields of one mapping by name; what nobody has asked for in the end is an unknown key.
final class RecipeFields {
    let position: RecipePosition
    let problems: RecipeProblems
    private let what: String
    private let fields: [RecipeNode.Field]
    private var asked: [String] = []

    /// The fields of a mapping; none, with a problem, where the node is something else.
    init(_ node: RecipeNode, _ what: String, _ problems: RecipeProblems) {
        position = node.position
        self.what = what
        self.problems = problems
        if case .mapping(let fields, _) = node {
            self.fields = fields
        } else {
            fields = []
            problems.add("\(what) must be a mapping, not \(node.kind)", at: node.position)
        }
    }

    /// All keys as they are, for mappings whose keys are names.
    var entries: [RecipeNode.Field] { fields }

    func node(_ key: String) -> RecipeNode? {
        asked.append(key)
        return fields.first { $0.key == key }?.value.nonNull
    }

    func require(_ key: String) -> RecipeNode? {
        let node = node(key)
        if node == nil { problems.add("\(what) needs '\(key)'", at: position) }
        return node
    }

    /// The place of a field's value; that of the mapping where there is no such field.
    func position(of key: String) -> RecipePosition {
        fields.first { $0.key == key }?.value.position ?? position
    }

    /// Reports keys that nobody asked for.
    func finish() {
        for field in fields where !asked.contains(field.key) {
            problems.add(
                "unknown key '\(field.key)' in \(what); "
                    + suggestion(for: field.key, among: asked),
                at: field.position)
        }
    }

    // MARK: Scalars

    func located(_ key: String) -> Located<String>? {
        guard let node = node(key) else { return nil }
        return text(node, key).map { Located(value: $0, position: node.position) }
    }

    func string(_ key: String) -> String? { located(key)?.value }

    func int(_ key: String, in range: ClosedRange<Int> = 0...Int.max) -> Int? {
        parse(key, "a whole number") { Int($0) }.flatMap { check(key, $0, in: range) }
    }

    func double(_ key: String, in range: ClosedRange<Double> = 0...Double.infinity) -> Double? {
        parse(key, "a number") { RecipeFields.number($0) }.flatMap { check(key, $0, in: range) }
    }

    func bool(_ key: String) -> Bool? {
        parse(key, "true or false") { ["true": true, "false": false][$0] }
    }

    /// One of the raw values of an enumeration.
    func choice<Choice: RawRepresentable & CaseIterable>(_ key: String, _ type: Choice.Type)
        -> Choice?
    where Choice.RawValue == String {
        guard let text = located(key) else { return nil }
        if let choice = Choice(rawValue: text.value) { return choice }
        let known = Choice.allCases.map(\.rawValue)
        problems.add(
            "'\(key)' cannot be '\(text.value)'; " + suggestion(for: text.value, among: known),
            at: text.position)
        return nil
    }

    /// A point in or a length of time: `30 %`, `200 steps`, `2 epochs`, or a number of steps.
    func span(_ key: String) -> StepSpan? {
        node(key).flatMap { span($0, key) }
    }

    func span(_ node: RecipeNode, _ key: String) -> StepSpan? {
        guard let text = text(node, key) else { return nil }
        if let span = StepSpan(text) { return span }
        problems.add(
            "'\(key)' must be like 30%, 200 steps or 2 epochs, not '\(text)'", at: node.position)
        return nil
    }

    // MARK: Lists

    /// The items of a list; one scalar counts as a list of one.
    func list(_ key: String) -> [RecipeNode]? {
        guard let node = node(key) else { return nil }
        if case .sequence(let items, _) = node { return items }
        if case .scalar = node { return [node] }
        problems.add("'\(key)' must be a list, not \(node.kind)", at: node.position)
        return nil
    }

    func strings(_ key: String) -> [Located<String>]? {
        list(key)?.compactMap { item in
            text(item, key).map { Located(value: $0, position: item.position) }
        }
    }

    func ints(_ key: String, in range: ClosedRange<Int>) -> [Int]? {
        strings(key)?.compactMap { item in
            guard let value = Int(item.value), range.contains(value) else {
                problems.add(
                    "'\(key)' must hold whole numbers from \(range.lowerBound) to \(range.upperBound),"
                        + " not '\(item.value)'", at: item.position)
                return nil
            }
            return value
        }
    }

    // MARK: Helpers

    /// A number, or a percentage.
    static func number(_ text: String) -> Double? {
        if text.hasSuffix("%") {
            return Double(text.dropLast().trimmingSuffix(while: { $0 == " " })).map { $0 / 100 }
        }
        guard let value = Double(text), !value.isNaN else { return nil }
        return value
    }

    private func text(_ node: RecipeNode, _ key: String) -> String? {
        if case .scalar(let text, _) = node { return text }
        problems.add("'\(key)' must be a plain value, not \(node.kind)", at: node.position)
        return nil
    }

    private func parse<Value>(_ key: String, _ expected: String, _ body: (String) -> Value?)
        -> Value?
    {
        guard let text = located(key) else { return nil }
        if let value = body(text.value) { return value }
        problems.add("'\(key)' must be \(expected), not '\(text.value)'", at: text.position)
        return nil
    }

    private func check<Value: Comparable>(
        _ key: String, _ value: Value, in range: ClosedRange<Value>
    ) -> Value? {
        if range.contains(value) { return value }
        problems.add(
            "'\(key)' must be from \(range.lowerBound) to \(range.upperBound), not \(value)",
            at: position(of: key))
        return nil
    }
}

extension StringProtocol {
    fileprivate func trimmingSuffix(while predicate: (Character) -> Bool) -> SubSequence {
        var end = endIndex
        while end > startIndex, predicate(self[index(before: end)]) { end = index(before: end) }
        return self[startIndex..<end]
    }
}

/// A point in, or a length of, a stage's time.
public enum StepSpan: Sendable, Hashable {
    /// Of all its optimizer steps.
    case share(Double)
    /// Optimizer steps.
    case steps(Int)
    /// Passes over the data.
    case epochs(Double)

    init?(_ text: String) {
        let words = text.split(separator: " ")
        if text.hasSuffix("%"), let share = RecipeFields.number(text), (0...1).contains(share) {
            self = .share(share)
        } else if words.count <= 2, let first = words.first, let steps = Int(first), steps >= 0,
            words.count == 1 || ["step", "steps"].contains(words[1])
        {
            self = .steps(steps)
        } else if words.count == 2, let epochs = Double(words[0]), epochs >= 0, epochs.isFinite,
            ["epoch", "epochs"].contains(words[1])
        {
            self = .epochs(epochs)
        } else {
            return nil
        }
    }

    /// The number of steps in a stage.
    func steps(perEpoch: Int, total: Int) -> Int {
        switch self {
        case .share(let share): Int((share * Double(total)).rounded())
        case .steps(let steps): steps
        case .epochs(let epochs): Int(min(epochs * Double(perEpoch), 1e15).rounded())
        }
    }
}

extension RecipeNode {
    /// Itself, or nil for YAML's nothing: a field that is `~` counts as left out.
    fileprivate var nonNull: RecipeNode? { isNull ? nil : self }
}
