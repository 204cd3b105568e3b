import EspalierEngine
import EspalierNN

extension Recipe.Stage {
    /// A stage, or nil where it has no name; other faults are replaced by defaults.
    init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        var label = "a stage"
        if case .scalar(let text, _)? = node["name"] { label = "stage '\(text)'" }
        let fields = RecipeFields(node, label, problems)
        let name = fields.require("name").flatMap { _ in fields.located("name") }
        model = fields.located("model")
        startFrom = fields.located("start_from")
        if model == nil, startFrom == nil {
            problems.add("\(label) needs 'model' or 'start_from'", at: node.position)
        }
        hasNewHead = false
        if let head = fields.located("head") {
            hasNewHead = head.value == "new"
            if hasNewHead, startFrom == nil {
                problems.add("'head: new' is about a start; there is none", at: head.position)
            }
            if !hasNewHead, head.value != "keep" {
                problems.add("'head' is new or keep, not '\(head.value)'", at: head.position)
            }
        }
        data =
            fields.require("on").flatMap { _ in fields.located("on") }
            ?? Located(value: "", position: node.position)
        epochs =
            fields.require("epochs").flatMap { _ in fields.int("epochs", in: 1...1_000_000) } ?? 1
        batch = fields.int("batch", in: 1...1_000_000) ?? 64
        microBatches = fields.int("micro_batches", in: 1...1_000_000) ?? 1
        if microBatches > batch {
            problems.add(
                "\(label) cannot cut a batch of \(batch) into \(microBatches) parts",
                at: fields.node("micro_batches")?.position ?? node.position)
        }
        precision = fields.choice("precision", Precision.self) ?? .float
        recomputes = fields.bool("recompute") ?? false
        optimizer =
            fields.node("optimizer").flatMap { Recipe.OptimizerChoice($0, problems) }
            ?? .adamW(
                rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8,
                decay: Recipe.Decay(amount: 0.01, except: []))
        schedule = fields.node("schedule").flatMap { Schedule.Shape($0, problems) } ?? .cosine
        warmup = fields.span("warmup") ?? .steps(0)
        clipping = fields.node("clip").flatMap { GradientClipping($0, problems) }
        smoothing = Float(fields.double("label_smoothing", in: 0...0.99) ?? 0)
        patience = nil
        if let node = fields.node("early_stop") {
            let inner = RecipeFields(node, "'early_stop'", problems)
            patience = inner.require("patience").flatMap { _ in
                inner.int("patience", in: 1...1_000_000)
            }
            inner.finish()
        }
        selection = fields.choice("select", Recipe.Selection.self) ?? .best
        pruning = fields.node("prune").flatMap { Recipe.Pruning($0, problems) }
        locksMasks = fields.bool("lock_masks") ?? false
        if locksMasks, pruning != nil {
            problems.add("\(label) cannot prune with locked masks", at: node.position)
        }
        if locksMasks, startFrom == nil {
            problems.add("\(label) has no masks to lock without 'start_from'", at: node.position)
        }
        distillation = fields.node("distill").flatMap { Recipe.Distillation($0, problems) }
        frozen = fields.strings("freeze") ?? []
        quantization = fields.node("quantize").map { Recipe.Quantization($0, problems) }
        checkpointEvery = fields.span("checkpoint_every")
        fields.finish()
        guard let name else { return nil }
        // The name becomes a folder.
        let allowed = name.value.allSatisfy {
            $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-")
        }
        if !allowed || name.value.isEmpty {
            problems.add(
                "a stage's name has letters, digits, _ and - only, not '\(name.value)'",
                at: name.position)
        }
        self.name = name
    }
}

extension Recipe.OptimizerChoice {
    fileprivate init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let choice = RecipeFields(node, "'optimizer'", problems)
        let rules = ["sgd", "adamw"]
        guard choice.entries.count == 1, let entry = choice.entries.first,
            rules.contains(entry.key)
        else {
            let word = choice.entries.first { !rules.contains($0.key) }
            problems.add(
                "'optimizer' names one rule with its settings, such as {adamw: {rate: 1e-3}}; "
                    + suggestion(for: word?.key ?? "", among: rules),
                at: word?.position ?? node.position)
            return nil
        }
        let fields = RecipeFields(entry.value, "'\(entry.key)'", problems)
        defer { fields.finish() }
        func float(_ key: String, _ value: Float, in range: ClosedRange<Double>) -> Float {
            fields.double(key, in: range).map(Float.init) ?? value
        }
        func decay(_ amount: Float) -> Recipe.Decay {
            Recipe.Decay(
                amount: float("weight_decay", amount, in: 0...1),
                except: fields.strings("no_decay")?.map(\.value) ?? [])
        }
        if entry.key == "sgd" {
            self = .sgd(
                rate: float("rate", 0.1, in: 0...1000),
                momentum: float("momentum", 0.9, in: 0...0.9999),
                nesterov: fields.bool("nesterov") ?? false, decay: decay(0))
        } else {
            self = .adamW(
                rate: float("rate", 1e-3, in: 0...1000), beta1: float("beta1", 0.9, in: 0...0.9999),
                beta2: float("beta2", 0.999, in: 0...0.999999),
                epsilon: float("epsilon", 1e-8, in: 1e-20...1), decay: decay(0.01))
        }
    }
}

extension GradientClipping {
    fileprivate init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'clip'", problems)
        defer { fields.finish() }
        let range = 1e-30...1e30
        if let limit = fields.double("norm", in: range) { self = .norm(Float(limit)); return }
        if let limit = fields.double("largest", in: range) { self = .largest(Float(limit)); return }
        if let limit = fields.double("value", in: range) { self = .value(Float(limit)); return }
        problems.add("'clip' is {norm: 1}, {largest: 1} or {value: 1}", at: node.position)
        return nil
    }
}

extension Recipe.Distillation {
    fileprivate init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'distill'", problems)
        defer { fields.finish() }
        weight = Float(fields.double("weight", in: 0...1000) ?? 0.5)
        taskWeight =
            fields.double("task_weight", in: 0...1000).map(Float.init) ?? max(1 - weight, 0)
        temperature = Float(fields.double("temperature", in: 0.01...1000) ?? 2)
        guard let teacher = fields.require("teacher").flatMap({ _ in fields.located("teacher") })
        else { return nil }
        self.teacher = teacher
    }
}

extension Recipe.Pruning {
    fileprivate init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'prune'", problems)
        defer { fields.finish() }
        position = node.position
        target = fields.require("to").flatMap { _ in fields.double("to", in: 0...1) } ?? 0
        initial = fields.double("from", in: 0...1) ?? 0
        if initial > target { problems.add("'from' is above 'to'", at: node.position) }
        if let schedule = fields.located("schedule"), schedule.value != "cubic" {
            problems.add(
                "the schedule of pruning is cubic, not '\(schedule.value)'", at: schedule.position)
        }
        (begin, end) = (.share(0), .share(0.6))
        if let node = fields.node("during") {
            if case .sequence(let items, _) = node, items.count == 2 {
                begin = fields.span(items[0], "during") ?? begin
                end = fields.span(items[1], "during") ?? end
            } else {
                problems.add(
                    "'during' is a list of two points, such as [5%, 60%]", at: node.position)
            }
        }
        every = fields.span("every") ?? .steps(20)
        var pattern = SparsityPattern.unstructured
        if let node = fields.node("pattern") {
            switch node {
            case .scalar("unstructured", _): break
            case .mapping:
                let outer = RecipeFields(node, "'pattern'", problems)
                if let node = outer.require("block") {
                    let block = RecipeFields(node, "'block'", problems)
                    pattern = .block(
                        outputs: block.int("outputs", in: 1...4096) ?? 1,
                        inputs: block.int("inputs", in: 1...4096) ?? 1)
                    block.finish()
                }
                outer.finish()
            default:
                problems.add(
                    "'pattern' is unstructured or {block: {outputs: 1, inputs: 4}}",
                    at: node.position)
            }
        }
        selection = MaskSelection(
            pattern: pattern, scope: fields.choice("scope", MaskSelection.Scope.self) ?? .layer,
            criterion: fields.choice("criterion", MaskSelection.Criterion.self) ?? .magnitude)
        except = fields.strings("except") ?? []
        only = fields.strings("only")
        rewindRate = fields.span("rewind_rate")
    }
}
