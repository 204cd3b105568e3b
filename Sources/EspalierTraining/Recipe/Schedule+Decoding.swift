import EspalierNN

extension Schedule.Shape {
    private static let plain: [(name: String, shape: Schedule.Shape)] = [
        ("constant", .constant), ("cosine", .cosine), ("linear", .linear),
    ]
    private static let withSettings = [
        "cosine", "restarts", "polynomial", "exponential", "step", "milestones", "one_cycle",
    ]

    /// A name alone, or one name with its settings: `{step: {every: 200, factor: 0.1}}`.
    init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        if case .scalar(let text, _) = node {
            if let entry = Schedule.Shape.plain.first(where: { $0.name == text }) {
                self = entry.shape
                return
            }
            problems.add(
                "'schedule' cannot be '\(text)'; "
                    + suggestion(for: text, among: Schedule.Shape.plain.map(\.name)),
                at: node.position)
            return nil
        }
        let choice = RecipeFields(node, "'schedule'", problems)
        guard choice.entries.count == 1, let entry = choice.entries.first,
            Schedule.Shape.withSettings.contains(entry.key)
        else {
            let word = choice.entries.first { !Schedule.Shape.withSettings.contains($0.key) }
            problems.add(
                "'schedule' is a name, or one name with its settings, such as "
                    + "{step: {every: 200, factor: 0.1}}; "
                    + suggestion(for: word?.key ?? "", among: Schedule.Shape.withSettings),
                at: word?.position ?? node.position)
            return nil
        }
        let fields = RecipeFields(entry.value, "'\(entry.key)'", problems)
        defer { fields.finish() }
        let steps = 1...1_000_000_000
        func factor() -> Double {
            fields.require("factor").flatMap { _ in fields.double("factor", in: 0...1) } ?? 1
        }
        switch entry.key {
        case "cosine": self = .cosineAnnealing(end: fields.double("end", in: 0...1) ?? 0)
        case "restarts":
            self = .cosineRestarts(cycles: fields.int("cycles", in: 1...1_000_000) ?? 1)
        case "polynomial":
            self = .polynomial(
                power: fields.double("power", in: 0...100) ?? 1,
                end: fields.double("end", in: 0...1) ?? 0)
        case "exponential": self = .exponential(factor: factor())
        case "step":
            let every = fields.require("every").flatMap { _ in fields.int("every", in: steps) }
            self = .step(every: every ?? 1, factor: factor())
        case "milestones":
            let at = fields.require("at").flatMap { _ in fields.ints("at", in: steps) }
            self = .milestones(at ?? [], factor: factor())
        default: self = .oneCycle(Schedule.OneCycle(fields))
        }
    }
}

extension Schedule.OneCycle {
    fileprivate init(_ fields: RecipeFields) {
        self.init()
        rise = fields.double("rise", in: 0.01...0.99) ?? rise
        isLinear = fields.bool("linear") ?? isLinear
        divisor = fields.double("divisor", in: 1...1e9) ?? divisor
        finalDivisor = fields.double("final_divisor", in: 1...1e9) ?? finalDivisor
        isSymmetric = fields.bool("symmetric") ?? isSymmetric
        lowMomentum = fields.double("low_momentum", in: 0...0.9999) ?? lowMomentum
        highMomentum = fields.double("high_momentum", in: 0...0.9999) ?? highMomentum
        if isSymmetric, rise > 0.5 {
            fields.problems.add(
                "a symmetric cycle rises for half of the steps at most",
                at: fields.position(of: "rise"))
        }
        if lowMomentum > highMomentum {
            fields.problems.add(
                "'low_momentum' is above 'high_momentum'",
                at: fields.position(of: "low_momentum"))
        }
    }
}
