import Yams

/// Where a piece of a recipe was written.
public struct RecipePosition: Sendable, Hashable, CustomStringConvertible {
    /// The file, or the `--set` that it came from.
    public var source: String
    /// From 1; 0 for what is not in a file.
    public var line: Int
    /// From 1.
    public var column: Int

    public var description: String { line > 0 ? "\(source):\(line):\(column)" : source }
}

/// Something wrong with a recipe, and where.
public struct RecipeProblem: Sendable, Hashable, CustomStringConvertible {
    /// Where it was written.
    public let position: RecipePosition
    /// What is wrong, and what to do.
    public let message: String

    public var description: String { "\(position): error: \(message)" }
}

/// Everything that is wrong with a recipe.
public struct RecipeError: Error, CustomStringConvertible {
    /// In the order of the file.
    public let problems: [RecipeProblem]

    init(_ problems: [RecipeProblem]) {
        self.problems = problems.sorted {
            ($0.position.line, $0.position.column) < ($1.position.line, $1.position.column)
        }
    }

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// A recipe's text as a tree, each piece with its position: what stands between YAML and the typed recipe.
indirect enum RecipeNode: Sendable {
    struct Field: Sendable {
        var key: String
        var position: RecipePosition
        var value: RecipeNode
    }

    case scalar(String, RecipePosition)
    case sequence([RecipeNode], RecipePosition)
    case mapping([Field], RecipePosition)

    var position: RecipePosition {
        switch self {
        case .scalar(_, let position), .sequence(_, let position), .mapping(_, let position):
            position
        }
    }

    /// Whether it is YAML's nothing: `~`, `null` or empty.
    var isNull: Bool {
        if case .scalar(let text, _) = self { return ["", "~", "null"].contains(text) }
        return false
    }

    var kind: String {
        switch self {
        case .scalar(let text, _): "'\(text)'"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }

    /// The text in a form that does not depend on layout, order of keys or comments.
    var canonical: String {
        switch self {
        case .scalar(let text, _): return "\"" + text.replacing("\"", with: "\\\"") + "\""
        case .sequence(let items, _):
            return "[" + items.map(\.canonical).joined(separator: ",") + "]"
        case .mapping(let fields, _):
            let parts = fields.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value.canonical)" }
            return "{" + parts.joined(separator: ",") + "}"
        }
    }
}

// MARK: - Reading

extension RecipeNode {
    // Far above any recipe that a person writes; below what would exhaust stack or memory.
    private static let maximumBytes = 1 << 20
    private static let maximumDepth = 100
    private static let maximumNodes = 100_000

    /// The tree of a YAML text.
    ///
    /// - Throws: `RecipeError` with the place of the first fault in its syntax.
    static func parse(_ text: String, source: String) throws -> RecipeNode {
        // A byte-order mark is no part of the text.
        let text = text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
        func fail(_ message: String, _ mark: Mark? = nil) -> RecipeError {
            let position = RecipePosition(
                source: source, line: mark?.line ?? 1, column: mark?.column ?? 1)
            return RecipeError([RecipeProblem(position: position, message: message)])
        }
        guard text.utf8.count <= maximumBytes else { throw fail("a recipe has at most 1 MiB") }
        guard nesting(of: text) <= maximumDepth else {
            throw fail("a recipe is nested at most \(maximumDepth) deep")
        }
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                throw fail("not YAML: \(problem)", mark)
            case .duplicatedKeysInMapping(let duplicates, let context):
                throw fail(
                    "the key '\(duplicates.joined(separator: "', '"))' stands twice", context.mark)
            default: throw fail("not YAML: \(error)")
            }
        }
        guard let root else { throw fail("the recipe is empty") }
        var count = 0
        return try convert(root, source: source, depth: 0, count: &count, fail)
    }

    // An upper bound of the depth, without parsing: brackets, dashes, and indentation, outside comments and quotes.
    private static func nesting(of text: String) -> Int {
        var (flow, deepest) = (0, 0)
        for line in text.split(separator: "\n") {
            var (start, isStart, leading) = (0, true, 0)
            var (quote, previous): (UInt8?, UInt8) = (nil, UInt8(ascii: " "))
            scan: for byte in line.utf8 {
                defer { previous = byte }
                if let open = quote {
                    if byte == open { quote = nil }
                    continue
                }
                switch byte {
                case UInt8(ascii: "#") where previous == UInt8(ascii: " "): break scan
                case UInt8(ascii: "\""), UInt8(ascii: "'"): (quote, isStart) = (byte, false)
                case UInt8(ascii: "["), UInt8(ascii: "{"): (flow, isStart) = (flow + 1, false)
                case UInt8(ascii: "]"), UInt8(ascii: "}"):
                    (flow, isStart) = (max(flow - 1, 0), false)
                case UInt8(ascii: " "), UInt8(ascii: "\t"): if isStart { leading += 1 }
                case UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"):
                    if isStart { start += 1 }
                default: isStart = false
                }
                deepest = max(deepest, flow + start + leading / 2)
            }
        }
        return deepest
    }

    private static func convert(
        _ node: Node, source: String, depth: Int, count: inout Int,
        _ fail: (String, Mark?) -> RecipeError
    ) throws -> RecipeNode {
        count += 1
        guard depth <= maximumDepth, count <= maximumNodes else {
            throw fail("the recipe is too deep or too large", node.mark)
        }
        let position = RecipePosition(
            source: source, line: node.mark?.line ?? 0, column: node.mark?.column ?? 0)
        switch node {
        case .scalar(let scalar): return .scalar(scalar.string, position)
        case .alias: throw fail("aliases are not supported here", node.mark)
        case .sequence(let sequence):
            var items: [RecipeNode] = []
            for item in sequence {
                items.append(
                    try convert(item, source: source, depth: depth + 1, count: &count, fail))
            }
            return .sequence(items, position)
        case .mapping(let mapping):
            var fields: [Field] = []
            for (key, value) in mapping {
                guard case .scalar(let name) = key else {
                    throw fail("a key must be a plain word", key.mark)
                }
                let place = RecipePosition(
                    source: source, line: key.mark?.line ?? 0, column: key.mark?.column ?? 0)
                let inner = try convert(
                    value, source: source, depth: depth + 1, count: &count, fail)
                fields.append(Field(key: name.string, position: place, value: inner))
            }
            return .mapping(fields, position)
        }
    }
}

// MARK: - Changes before decoding

extension RecipeNode {
    /// The value of a key of a mapping.
    subscript(key: String) -> RecipeNode? {
        guard case .mapping(let fields, _) = self else { return nil }
        return fields.first { $0.key == key }?.value
    }

    /// The tree with `key=value` put in; keys are dotted, and a stage is found by its name.
    ///
    /// - Throws: `RecipeError` where the text has no `=` or its path meets something that has no keys.
    func setting(_ assignment: String) throws -> RecipeNode {
        let position = RecipePosition(source: "--set \(assignment)", line: 0, column: 0)
        func fail(_ message: String) -> RecipeError {
            RecipeError([RecipeProblem(position: position, message: message)])
        }
        guard let equals = assignment.firstIndex(of: "="), equals != assignment.startIndex else {
            throw fail("key=value is expected")
        }
        let path = assignment[..<equals].split(separator: ".").map(String.init)
        let text = String(assignment[assignment.index(after: equals)...])
        let value =
            text.isEmpty
            ? .scalar("", position) : try RecipeNode.parse(text, source: position.source)
        return try replacing(path[...], with: value.moved(to: position), position, fail)
    }

    private func moved(to position: RecipePosition) -> RecipeNode {
        switch self {
        case .scalar(let text, _): .scalar(text, position)
        case .sequence(let items, _): .sequence(items.map { $0.moved(to: position) }, position)
        case .mapping(let fields, _):
            .mapping(
                fields.map {
                    Field(key: $0.key, position: position, value: $0.value.moved(to: position))
                }, position)
        }
    }

    private func replacing(
        _ path: ArraySlice<String>, with value: RecipeNode, _ position: RecipePosition,
        _ fail: (String) -> RecipeError
    ) throws -> RecipeNode {
        guard let key = path.first else { return value }
        switch self {
        case .mapping(var fields, let own):
            if path.count == 1, value.isNull {
                fields.removeAll { $0.key == key }
            } else if let index = fields.firstIndex(where: { $0.key == key }) {
                fields[index].value = try fields[index].value.replacing(
                    path.dropFirst(), with: value, position, fail)
            } else {
                let inner = try RecipeNode.mapping([], position).replacing(
                    path.dropFirst(), with: value, position, fail)
                fields.append(
                    Field(key: key, position: position, value: path.count == 1 ? value : inner))
            }
            return .mapping(fields, own)
        case .sequence(var items, let own):
            let names = items.map { item -> String in
                if case .scalar(let text, _)? = item["name"] { text } else { "" }
            }
            guard let index = names.firstIndex(of: key) ?? Int(key), items.indices.contains(index)
            else { throw fail("there is no '\(key)'; " + suggestion(for: key, among: names)) }
            items[index] = try items[index].replacing(path.dropFirst(), with: value, position, fail)
            return .sequence(items, own)
        case .scalar:
            throw fail("'\(key)' is looked for in a plain value")
        }
    }

    /// The tree with `$name` replaced by the variable of that name.
    func substituting(
        _ variables: [String: RecipeNode], used: inout Set<String>,
        _ problems: inout [RecipeProblem]
    ) -> RecipeNode {
        switch self {
        case .scalar(let text, let position):
            guard text.hasPrefix("$"), text.count > 1 else { return self }
            let name = String(text.dropFirst())
            used.insert(name)
            if let value = variables[name] {
                // The place of use is where a reader looks first.
                if case .scalar(let text, _) = value { return .scalar(text, position) }
                return value
            }
            problems.append(
                RecipeProblem(
                    position: position,
                    message: "there is no variable '\(name)'; "
                        + suggestion(for: name, among: variables.keys.sorted())))
            return self
        case .sequence(let items, let position):
            return .sequence(
                items.map { $0.substituting(variables, used: &used, &problems) }, position)
        case .mapping(let fields, let position):
            return .mapping(
                fields.map {
                    Field(
                        key: $0.key, position: $0.position,
                        value: $0.value.substituting(variables, used: &used, &problems))
                }, position)
        }
    }

    /// A mapping with the fields of `defaults` that it does not have itself.
    func merging(defaults: RecipeNode) -> RecipeNode {
        guard case .mapping(let own, let position) = self, case .mapping(let others, _) = defaults
        else { return self }
        let missing = others.filter { other in !own.contains { $0.key == other.key } }
        return .mapping(own + missing, position)
    }

    /// A recipe in which every stage has the fields of `defaults` that it does not have itself.
    func mergingDefaultsIntoStages() -> RecipeNode {
        guard case .mapping(var fields, let position) = self, let defaults = self["defaults"],
            let index = fields.firstIndex(where: { $0.key == "stages" }),
            case .sequence(let stages, let place) = fields[index].value
        else { return self }
        fields[index].value = .sequence(stages.map { $0.merging(defaults: defaults) }, place)
        return .mapping(fields, position)
    }
}

/// "did you mean 'x'?" where a known word is close, else the known words.
func suggestion(for word: String, among known: [String]) -> String {
    // Beyond what a person writes, the nearest word is not worth the search.
    let known = known.prefix(200).filter { !$0.isEmpty }
    guard !known.isEmpty else { return "none is defined" }
    let word = word.lowercased()
    let nearest = known.map { ($0, distance(word, $0.lowercased())) }.min { $0.1 < $1.1 }
    if let nearest, nearest.1 <= max(2, word.count / 3) { return "did you mean '\(nearest.0)'?" }
    if word.count >= 3, let longer = known.first(where: { $0.lowercased().hasPrefix(word) }) {
        return "did you mean '\(longer)'?"
    }
    return "known: " + known.joined(separator: ", ")
}

/// Letters to insert, delete, replace or exchange (optimal string alignment).
private func distance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a), Array(b))
    var rows = [Array(0...b.count)]
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            var best = min(rows[i][j] + (a[i] == b[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                best = min(best, rows[i - 1][j - 1] + 1)
            }
            row.append(best)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
