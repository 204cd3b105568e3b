import EspalierCodec
import EspalierData
import EspalierNN

extension Recipe {
    /// Reads a recipe and checks it as far as it can be known before the first step: that data and files are there, and
    /// that models and patterns fit them.
    ///
    /// - Parameter assignments: `key=value` pairs that replace what the file says.
    /// - Throws: `FileError`, or `RecipeError` with all that is wrong.
    public static func checked(path: String, assignments: [String] = []) throws -> Recipe {
        let problems = RecipeProblems()
        let recipe = try Recipe(
            text: text(of: path), path: path, assignments: assignments, problems)
        recipe.check(problems)
        try problems.throwIfAny()
        return recipe
    }

    /// Reads a recipe.
    ///
    /// - Throws: `FileError`, or `RecipeError` with all that is wrong with its text.
    public init(path: String, assignments: [String] = []) throws {
        try self.init(text: Recipe.text(of: path), path: path, assignments: assignments)
    }

    /// Reads a recipe from its text.
    ///
    /// - Throws: `RecipeError` with all that is wrong with it.
    public init(text: String, path: String, assignments: [String] = []) throws {
        let problems = RecipeProblems()
        try self.init(text: text, path: path, assignments: assignments, problems)
        try problems.throwIfAny()
    }

    private static func text(of path: String) throws(FileError) -> String {
        guard let text = String(validating: try FileAccess.read(path), as: UTF8.self) else {
            throw FileError(path: path, "a recipe must be UTF-8 text")
        }
        return text
    }

    // Decoding goes on with defaults where something is wrong; the caller looks at the problems.
    private init(
        text: String, path: String, assignments: [String], _ problems: RecipeProblems
    ) throws {
        var root = try RecipeNode.parse(text, source: path)
        // What is set for one stage changes what it inherits, so defaults come in between.
        let isGeneral = { (text: String) in
            text.hasPrefix("defaults") || text.hasPrefix("variables")
        }
        for assignment in assignments.filter(isGeneral) { root = try root.setting(assignment) }
        root = root.mergingDefaultsIntoStages()
        for assignment in assignments where !isGeneral(assignment) {
            root = try root.setting(assignment)
        }
        root = Recipe.substituteVariables(root, problems)
        let fields = RecipeFields(root, "the recipe", problems)
        _ = fields.node("variables")
        name = fields.string("name") ?? "recipe"
        seed = UInt64(fields.int("seed") ?? 0)
        self.path = path
        canonical = root.canonical
        data = [:]
        if let node = fields.require("data") {
            for entry in RecipeFields(node, "'data'", problems).entries {
                data[entry.key] = Data(entry.value, entry.key, problems)
            }
        }
        models = [:]
        // A model with faults of its own still counts as named.
        var modelNames: [String] = []
        if let node = fields.node("models") {
            for entry in RecipeFields(node, "'models'", problems).entries {
                modelNames.append(entry.key)
                models[entry.key] = Architecture(entry.value, entry.key, problems)
            }
        }
        let defaults = fields.node("defaults")
        if let defaults { _ = RecipeFields(defaults, "'defaults'", problems) }
        stages = []
        if let node = fields.require("stages") {
            guard case .sequence(let items, _) = node else {
                problems.add("'stages' must be a list, not \(node.kind)", at: node.position)
                throw RecipeError(problems.all)
            }
            for item in items {
                if let stage = Stage(item, problems) { stages.append(stage) }
            }
            if items.isEmpty {
                problems.add("a recipe needs at least one stage", at: node.position)
            }
        }
        report = fields.node("report").flatMap { Report($0, problems) }
        export = fields.node("export").flatMap { Export($0, problems) }
        fields.finish()
        checkReferences(modelNames, problems)
    }

    private static func substituteVariables(_ root: RecipeNode, _ problems: RecipeProblems)
        -> RecipeNode
    {
        guard case .mapping(let variables, _)? = root["variables"] else { return root }
        let values = Dictionary(variables.map { ($0.key, $0.value) }) { first, _ in first }
        var (used, missing) = (Set<String>(), [RecipeProblem]())
        let result = root.substituting(values, used: &used, &missing)
        for problem in missing { problems.add(problem.message, at: problem.position) }
        for variable in variables where !used.contains(variable.key) {
            problems.add(
                "the variable '\(variable.key)' is never used; "
                    + suggestion(for: variable.key, among: used.sorted()), at: variable.position)
        }
        return result
    }

    // What names what, before anything is loaded.
    private func checkReferences(_ modelNames: [String], _ problems: RecipeProblems) {
        var known: [String] = []
        func check(_ reference: Located<String>?, _ what: String, orFile: Bool) {
            guard let reference, !known.contains(reference.value) else { return }
            let looksLikeFile = reference.value.contains("/") || reference.value.contains(".")
            if orFile, looksLikeFile { return }
            problems.add(
                "\(what) '\(reference.value)' is no earlier stage; "
                    + suggestion(for: reference.value, among: known), at: reference.position)
        }
        for stage in stages {
            if known.contains(stage.name.value) {
                problems.add("there are two stages '\(stage.name.value)'", at: stage.name.position)
            }
            check(stage.startFrom, "start_from", orFile: true)
            check(stage.distillation?.teacher, "the teacher", orFile: true)
            if data[stage.data.value] == nil, !stage.data.value.isEmpty {
                problems.add(
                    "there is no data '\(stage.data.value)'; "
                        + suggestion(for: stage.data.value, among: data.keys.sorted()),
                    at: stage.data.position)
            }
            if let model = stage.model, !modelNames.contains(model.value) {
                problems.add(
                    "there is no model '\(model.value)'; "
                        + suggestion(for: model.value, among: modelNames),
                    at: model.position)
            }
            known.append(stage.name.value)
        }
        checkUse(modelNames, problems)
        check(report?.teacher, "the report's teacher", orFile: false)
        check(report?.student, "the report's student", orFile: false)
        check(export?.stage, "the stage to export", orFile: false)
        if let export, let student = report?.student, export.stage.value != student.value {
            problems.add(
                "'export' ships '\(export.stage.value)', the report's student is '\(student.value)'; "
                    + "a table's accuracy, bytes and latency belong to one file",
                at: export.stage.position)
        }
        if let export, export.requiresEqualPredictions, report == nil {
            problems.add(
                "'predictions: equal' needs a 'report', which says when the test part is read",
                at: export.position)
        }
        var reported: Set<String> = []
        for name in report?.located ?? [] where !reported.insert(name.value).inserted {
            problems.add(
                "the report names the stage '\(name.value)' twice", at: name.position)
        }
        for control in report?.controls ?? [] { check(control.stage, "the control", orFile: false) }
    }
}

extension Recipe {
    // What is defined and never used is likely a misspelt name elsewhere.
    private func checkUse(_ modelNames: [String], _ problems: RecipeProblems) {
        for (name, entry) in data where !stages.contains(where: { $0.data.value == name }) {
            problems.add("the data '\(name)' is never used", at: entry.source.position)
        }
        for name in modelNames where !stages.contains(where: { $0.model?.value == name }) {
            problems.add(
                "the model '\(name)' is never used",
                at: stages.first?.name.position
                    ?? RecipePosition(source: path, line: 0, column: 0))
        }
    }
}

extension Recipe.Data {
    init(_ node: RecipeNode, _ name: String, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "data '\(name)'", problems)
        let named = fields.located("dataset")
        let folder = fields.located("folder")
        if (named == nil) == (folder == nil) {
            problems.add("data '\(name)' needs either 'dataset' or 'folder'", at: node.position)
        }
        source =
            named.map { Located(value: .named($0.value), position: $0.position) }
            ?? Located(
                value: .folder(folder?.value ?? ""), position: folder?.position ?? node.position)
        task = fields.choice("task", ImageTask.self) ?? .classes
        dev = fields.double("dev", in: 0...0.9) ?? 0.1
        classes = fields.int("classes", in: 2...1_000_000)
        if classes != nil, task == .rotation {
            problems.add("'rotation' has four classes; leave out 'classes'", at: node.position)
        }
        largestPixel = fields.double("largest_pixel", in: 1...255)
        augmentation = Augmentation()
        for item in fields.list("augment") ?? [] { augmentation.add(item, task, problems) }
        fields.finish()
    }
}

extension Augmentation {
    // `shift` and `turn` may stand alone; amounts are given as `shift: 2`, `noise: 0.05`.
    fileprivate mutating func add(_ node: RecipeNode, _ task: ImageTask, _ problems: RecipeProblems)
    {
        let known = ["shift", "noise", "quarter_turns"]
        func turn(at position: RecipePosition) {
            if task == .rotation {
                problems.add("quarter turns would change what 'rotation' asks for", at: position)
            }
            quarterTurns = true
        }
        switch node {
        case .scalar("shift", _): shift = 1
        case .scalar("noise", _): noise = 0.05
        case .scalar("quarter_turns", let position): turn(at: position)
        case .mapping:
            let fields = RecipeFields(node, "'augment'", problems)
            if let value = fields.int("shift", in: 0...1024) { shift = value }
            if let value = fields.double("noise", in: 0...10) { noise = Float(value) }
            if fields.bool("quarter_turns") == true { turn(at: node.position) }
            fields.finish()
        default:
            var word = ""
            if case .scalar(let text, _) = node { word = text }
            problems.add(
                "unknown change \(node.kind) in 'augment'; " + suggestion(for: word, among: known),
                at: node.position)
        }
    }
}

extension Architecture {
    fileprivate init?(_ node: RecipeNode, _ name: String, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "model '\(name)'", problems)
        defer { fields.finish() }
        let family = fields.located("family")
        func dropout() -> Float { Float(fields.double("dropout", in: 0...0.99) ?? 0) }
        switch family?.value {
        case "convnet":
            self = .convnet(
                channels: fields.ints("channels", in: 1...65_536) ?? [32, 64],
                hidden: fields.int("hidden", in: 0...1_000_000) ?? 128, dropout: dropout())
        case "mlp":
            self = .mlp(
                hidden: fields.ints("hidden", in: 1...1_000_000) ?? [512], dropout: dropout())
        case "resnet":
            let position = fields.node("depth")?.position ?? node.position
            let depth = fields.int("depth", in: 8...1_202) ?? 20
            if depth % 6 != 2 {
                problems.add(
                    "a resnet's depth is 6 n + 2, such as 20 or 32, not \(depth)", at: position)
            }
            self = .resnet(depth: depth)
        case nil:
            _ = dropout()
            problems.add("model '\(name)' needs 'family'", at: node.position)
            return nil
        case .some(let other):
            _ = dropout()
            problems.add(
                "there is no model family '\(other)'; "
                    + suggestion(for: other, among: ["convnet", "mlp", "resnet"]),
                at: family?.position ?? node.position)
            return nil
        }
    }
}

extension Recipe.Report {
    fileprivate init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'report'", problems)
        let missing = Located(value: "", position: node.position)
        teacher = fields.require("teacher").flatMap { _ in fields.located("teacher") } ?? missing
        student = fields.require("student").flatMap { _ in fields.located("student") } ?? missing
        controls = []
        if let node = fields.node("controls") {
            for entry in RecipeFields(node, "'controls'", problems).entries {
                guard case .scalar(let stage, let position) = entry.value else {
                    problems.add("a control names a stage", at: entry.position)
                    continue
                }
                controls.append((entry.key, Located(value: stage, position: position)))
            }
        }
        fields.finish()
    }
}
