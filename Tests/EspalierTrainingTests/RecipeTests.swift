import EspalierData
import EspalierNN
import EspalierTesting
import EspalierTraining
import Foundation
import Testing

@Suite struct RecipeTests {
    private func problems(_ text: String, set assignments: [String] = []) -> [String] {
        do {
            _ = try Recipe(text: text, path: "r.yaml", assignments: assignments)
            return []
        } catch let error as RecipeError {
            return error.problems.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    @Test func everyRecipeOfTheRepositoryIsGood() throws {
        let folder = Fixtures.packageRoot + "/recipes"
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
            $0.hasSuffix(".yaml")
        }
        #expect(!files.isEmpty)
        for file in files { _ = try Recipe.checked(path: folder + "/" + file) }
    }

    @Test func residualNetworks() throws {
        func text(_ model: String) -> String {
            """
            name: residual
            data: {digits: {dataset: digits}}
            models: {network: {\(model)}}
            stages: [{name: one, model: network, on: digits, epochs: 1}]
            """
        }
        for (model, depth) in [("family: resnet, depth: 32", 32), ("family: resnet", 20)] {
            #expect(problems(text(model)).isEmpty)
            let recipe = try Recipe(text: text(model), path: "r.yaml")
            #expect(recipe.models["network"] == .resnet(depth: depth))
        }
        #expect(
            problems(text("family: resnet, depth: 21")).contains {
                $0.hasPrefix("r.yaml:3:43: error: a resnet's depth is 6 n + 2")
            })
        #expect(
            problems(text("family: resnet, hidden: 3")).contains {
                $0.contains("unknown key 'hidden' in model 'network'")
            })
    }

    @Test func allProblemsAtOnceWithTheirPlaces() {
        let text = """
            name: faulty
            data:
              digits: {dataset: digits, tsk: rotation}
            models:
              network: {family: convnett}
            defaults: {optimizer: {adamv: {rate: 1e-3}}}
            stages:
              - {name: one, model: network, on: digit, epocs: 3}
              - {name: two, start_from: on, on: digits, epochs: none, head: fresh}
              - {name: one, model: net, on: digits, epochs: 0, schedule: cosin}
            reprot: {}
            """
        let found = problems(text)
        for expected in [
            "r.yaml:3:29: error: unknown key 'tsk' in data 'digits'; did you mean 'task'?",
            "r.yaml:5:21: error: there is no model family 'convnett'; did you mean 'convnet'?",
            "r.yaml:6:24: error: 'optimizer' names one rule with its settings, such as "
                + "{adamw: {rate: 1e-3}}; did you mean 'adamw'?",
            "r.yaml:8:37: error: there is no data 'digit'; did you mean 'digits'?",
            "r.yaml:8:44: error: unknown key 'epocs' in stage 'one'; did you mean 'epochs'?",
            "r.yaml:9:29: error: start_from 'on' is no earlier stage; did you mean 'one'?",
            "r.yaml:9:53: error: 'epochs' must be a whole number, not 'none'",
            "r.yaml:9:65: error: 'head' is new or keep, not 'fresh'",
            "r.yaml:10:12: error: there are two stages 'one'",
            "r.yaml:10:24: error: there is no model 'net'; did you mean 'network'?",
            "r.yaml:10:49: error: 'epochs' must be from 1 to 1000000, not 0",
            "r.yaml:10:62: error: 'schedule' cannot be 'cosin'; did you mean 'cosine'?",
            "r.yaml:11:1: error: unknown key 'reprot' in the recipe; did you mean 'report'?",
        ] {
            #expect(found.contains(expected), "missing: \(expected)\nfound: \(found)")
        }
        #expect(found.contains("r.yaml:8:5: error: stage 'one' needs 'epochs'"))
        #expect(found.count == 14, "\(found)")
    }

    @Test func schedulesWithSettings() throws {
        func shape(_ text: String) throws -> Schedule.Shape? {
            try Recipe(
                text: TinyRun.recipe, path: "r.yaml",
                assignments: ["stages.student.schedule=\(text)"]
            ).stages.last?.schedule
        }
        let cases: [(String, Schedule.Shape)] = [
            ("constant", .constant), ("linear", .linear), ("cosine", .cosine),
            ("{cosine: {end: 0.1}}", .cosineAnnealing(end: 0.1)),
            ("{restarts: {cycles: 3}}", .cosineRestarts(cycles: 3)),
            ("{polynomial: {power: 2, end: 1%}}", .polynomial(power: 2, end: 0.01)),
            ("{exponential: {factor: 0.9}}", .exponential(factor: 0.9)),
            ("{step: {every: 5, factor: 0.5}}", .step(every: 5, factor: 0.5)),
            ("{milestones: {at: [5, 9], factor: 0.1}}", .milestones([5, 9], factor: 0.1)),
            ("{one_cycle: {}}", .oneCycle(Schedule.OneCycle())),
            (
                "{one_cycle: {rise: 40%, linear: true, divisor: 10, final_divisor: 100, "
                    + "symmetric: true, low_momentum: 0.8, high_momentum: 0.9}}",
                .oneCycle(
                    Schedule.OneCycle(
                        rise: 0.4, isLinear: true, divisor: 10, finalDivisor: 100,
                        isSymmetric: true, lowMomentum: 0.8, highMomentum: 0.9))
            ),
        ]
        for (text, expected) in cases { #expect(try shape(text) == expected, "\(text)") }
        for text in [
            "{step: {every: 5}}", "{step: {factor: 0.5}}", "{stepp: {every: 5, factor: 0.5}}",
            "{step: {every: 0, factor: 0.5}}", "{exponential: {factor: 2}}",
            "{one_cycle: {rise: 60%, symmetric: true}}",
            "{one_cycle: {low_momentum: 0.9, high_momentum: 0.8}}", "[cosine]",
        ] {
            #expect(throws: RecipeError.self, "\(text)") { try shape(text) }
        }
    }

    @Test func valuesFromTheCommandLine() throws {
        let recipe = try Recipe(
            text: TinyRun.recipe, path: "r.yaml",
            assignments: ["seed=9", "stages.student.epochs=7", "data.classes.augment=[shift]"])
        #expect(recipe.seed == 9)
        #expect(recipe.stages.last?.epochs == 7)
        #expect(recipe.data["classes"]?.augmentation.noise == 0)
        #expect(
            problems(TinyRun.recipe, set: ["stages.student.epochz=7"]) == [
                "--set stages.student.epochz=7: error: unknown key 'epochz' in stage 'student'; "
                    + "did you mean 'epochs'?"
            ])
        #expect(
            problems(TinyRun.recipe, set: ["stages.studnet.epochs=7"]).first?.contains(
                "did you mean 'student'?") == true)
        #expect(problems(TinyRun.recipe, set: ["seed"]).first?.contains("key=value") == true)
    }

    @Test func variablesAndDefaults() throws {
        let text = """
            variables: {n: 5}
            data: {d: {dataset: digits}}
            models: {m: {family: mlp, hidden: [8]}}
            defaults: {epochs: $n, batch: 16}
            stages:
              - {name: a, model: m, on: d}
              - {name: b, model: m, on: d, epochs: 2}
            """
        let recipe = try Recipe(text: text, path: "r.yaml", assignments: ["variables.n=6"])
        #expect(recipe.stages.map(\.epochs) == [6, 2])
        #expect(recipe.stages.map(\.batch) == [16, 16])
        #expect(
            problems(text.replacing("$n", with: "$m")) == [
                "r.yaml:1:13: error: the variable 'n' is never used; did you mean 'm'?",
                "r.yaml:4:20: error: there is no variable 'm'; did you mean 'n'?",
                "r.yaml:4:20: error: 'epochs' must be a whole number, not '$m'",
            ])
    }

    @Test func hostileTexts() {
        #expect(problems("") == ["r.yaml:1:1: error: the recipe is empty"])
        #expect(problems("a: [1, 2").first?.contains("not YAML") == true)
        #expect(problems("a: 1\na: 2").first?.contains("stands twice") == true)
        #expect(problems("\u{0}\u{1}").first?.contains("not YAML") == true)
        #expect(problems("- 1").first?.contains("must be a mapping") == true)
        let deep = String(repeating: "[", count: 100_000)
        #expect(problems(deep).first?.contains("nested") == true)
        #expect(problems(String(repeating: "- ", count: 5000)).first?.contains("nested") == true)
        let laughs = (1..<12).reduce("a0: &a0 [x, x, x, x, x, x, x, x]\n") { text, level in
            let item = "*a\(level - 1)"
            return text + "a\(level): &a\(level) ["
                + Array(repeating: item, count: 8).joined(separator: ", ") + "]\n"
        }
        #expect(problems(laughs).first?.contains("too deep or too large") == true)
    }

    @Test func whatWouldSilentlyDoSomethingElse() throws {
        let faults: [(assignment: String, message: String)] = [
            ("variables={n: 3}", "the variable 'n' is never used"),
            ("data.more={dataset: tiny}", "the data 'more' is never used"),
            ("models.more={family: mlp}", "the model 'more' is never used"),
            ("data.pretext.classes=3", "'rotation' has four classes"),
            ("stages.sparse_student.prune.during=[60%, 10%]", "'during' ends before it begins"),
            ("stages.sparse_student.prune.rewind_rate=90%", "'rewind_rate' goes to step"),
            ("stages.sparse_student.freeze=[hidden.weight]", "is frozen and cannot be pruned"),
            ("stages.task_teacher.warmup=100 epochs", "'warmup' takes"),
            ("stages.pretext_teacher.head=new", "'head: new' is about a start"),
            ("stages.sparse_student.prune.only=[head.weight]", "leaves no masks to lock"),
            ("models.network.channels=[65536, 65536]", "more than"),
            ("defaults.optimizer.adamw.beta2=0.99999999", "'beta2' must be from"),
        ]
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            for fault in faults {
                var text = ""
                do {
                    _ = try Recipe.checked(path: tiny.path, assignments: [fault.assignment])
                } catch { text = "\(error)" }
                #expect(text.contains(fault.message), "\(fault.assignment): \(text)")
            }
        }
    }

    @Test func textAndModelAreCheckedAtOnce() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            let assignments = [
                "stages.student.epochz=3", "stages.pretext_teacher.freeze=[conv9.*]",
                "data.classes.dataset=nowhere",
            ]
            do {
                _ = try Recipe.checked(path: tiny.path, assignments: assignments)
                Issue.record("the recipe passed")
            } catch let error as RecipeError {
                let text = error.description
                #expect(text.contains("epochz") && text.contains("conv9"))
                #expect(text.contains("no data set of this name"))
            }
        }
    }

    @Test func assignmentsMergeWithDefaultsAndCanTakeAway() throws {
        // Saying again what is inherited changes nothing.
        let base = try Recipe(text: TinyRun.recipe, path: "r.yaml")
        let again = try Recipe(
            text: TinyRun.recipe, path: "r.yaml",
            assignments: ["stages.task_teacher.optimizer.adamw.weight_decay=0.5"])
        #expect(base.stages[2].optimizer.rate == again.stages[2].optimizer.rate)
        let without = try Recipe(
            text: TinyRun.recipe, path: "r.yaml", assignments: ["stages.student.clip=~"])
        #expect(base.stages[3].clipping != nil && without.stages[3].clipping == nil)
    }

    @Test func manyProblemsAreQuick() {
        let stages = (0..<3000).map {
            "  - {name: s\($0), start_from: t\($0), on: d\($0), epochs: 1}\n"
        }
        let text = "data: {d: {dataset: digits}}\nstages:\n" + stages.joined()
        #expect(problems(text).count == 100)
        #expect(problems("\u{FEFF}" + TinyRun.recipe).isEmpty)
        let comment = "# " + String(repeating: "[0, 1) ", count: 200) + "\n"
        #expect(problems(comment + TinyRun.recipe).isEmpty)
    }

    @Test func whatDoesNotFitTheModel() throws {
        try Fixtures.withFolder { folder in
            let tiny = try TinyRun(in: folder)
            func check(_ assignments: String...) -> String {
                do {
                    _ = try Recipe.checked(path: tiny.path, assignments: assignments)
                    return "good"
                } catch { return "\(error)" }
            }
            #expect(check() == "good")
            #expect(
                check("stages.sparse_student.prune.except=[\"heat.*\"]").contains(
                    "'except' 'heat.*' matches no parameter"))
            #expect(
                check("stages.sparse_student.prune.only=[\"layer3.*\"]").contains(
                    "'only' 'layer3.*' matches no parameter"))
            #expect(check("stages.student.freeze=[\"conv9.*\"]").contains("'freeze' 'conv9.*'"))
            #expect(
                check("stages.sparse_student.prune.except=[\"head.*\"]").contains(
                    "1x4 blocks do not divide 'conv1.weight'"))
            #expect(
                check("stages.sparse_student.prune.during=[10%, 100%]").contains(
                    "pruning would end at step"))
            #expect(check("stages.student.head=keep") == "good")
            #expect(check("stages.student.start_from=task_teacher").contains("no masks to lock"))
            #expect(check("stages.student.distill.teacher=pretext_teacher") == "good")
            #expect(check("models.network.channels=[4, 4, 4]").contains("at most 2 fit"))
            #expect(
                check("data.classes.dataset=nowhere").contains("there is no data set of this name"))
            #expect(check("data.classes.classes=3").contains("label 3 (counted from 0) is 3"))
        }
    }
}
