/// Names with `*` for any letters and `?` for one.
struct NamePattern {
    private let pattern: [Character]

    init(_ pattern: String) { self.pattern = Array(pattern) }

    func matches(_ name: String) -> Bool {
        let name = Array(name)
        // reachable[i]: the pattern so far can have taken the first i letters.
        var reachable = [true] + [Bool](repeating: false, count: name.count)
        for letter in pattern {
            var next = [Bool](repeating: false, count: name.count + 1)
            if letter == "*" {
                var any = false
                for index in 0...name.count {
                    any = any || reachable[index]
                    next[index] = any
                }
            } else {
                for index in 0..<name.count
                where reachable[index] && (letter == "?" || letter == name[index]) {
                    next[index + 1] = true
                }
            }
            reachable = next
        }
        return reachable[name.count]
    }
}

extension Collection<Located<String>> {
    /// Whether a name matches one of the patterns.
    func match(_ name: String) -> Bool { contains { NamePattern($0.value).matches(name) } }

    /// Reports patterns that match none of the names.
    func check(against names: [String], _ what: String, _ problems: RecipeProblems) {
        for pattern in self where !names.contains(where: { NamePattern(pattern.value).matches($0) })
        {
            problems.add(
                "\(what) '\(pattern.value)' matches no parameter; "
                    + suggestion(for: pattern.value, among: names), at: pattern.position)
        }
    }
}
