import EspalierData
import EspalierInterchange
import EspalierNN
import EspalierRuntime
import EspalierTensors

extension Recipe {
    /// Checks what can be known before the first step: that data and files are there, and that models and patterns
    /// fit them. Networks are made, not trained.
    func check(_ problems: RecipeProblems) {
        var loaded: [String: TaskData] = [:]
        for (name, entry) in data.sorted(by: { $0.key < $1.key }) {
            do {
                loaded[name] = try TaskData(name, entry, self)
            } catch {
                problems.add("\(error)", at: entry.source.position)
            }
        }
        for stage in stages where report.map({ $0.names.contains(stage.name.value) }) ?? false {
            if let data = loaded[stage.data.value], !data.folder.has(.test) {
                problems.add(
                    "'report' reads the test part of '\(stage.data.value)', which has none",
                    at: stage.data.position)
            }
        }
        var shapes: [String: Network] = [:]
        // The parameters that each stage leaves masked.
        var masked: [String: Set<String>] = [:]
        for stage in stages {
            guard let data = loaded[stage.data.value] else { continue }
            let start = try? start(of: stage, shapes, problems)
            guard let network = network(for: stage, start: start?.network, data, problems) else {
                continue
            }
            let left = stage.quantization.flatMap { try? network.quantized($0.schemes) }
            shapes[stage.name.value] = left ?? network
            let parameters = ParameterSet(network)
            stage.check(network, StageTime(stage, examples: data.train.count), problems)
            stage.checkStart(network, problems)
            let own = Set(parameters.entries.map(\.name))
            var carried = stage.startFrom.flatMap { masked[$0.value] } ?? start?.masked ?? []
            carried = carried.filter {
                own.contains($0) && !(stage.hasNewHead && $0.hasPrefix("head."))
            }
            if stage.locksMasks, start != nil, carried.isEmpty {
                problems.add(
                    "'lock_masks': '\(stage.startFrom?.value ?? "")' leaves no masks to lock",
                    at: stage.startFrom?.position ?? stage.name.position)
            }
            let pruned = stage.pruning.map { GradualPruning.candidates($0, in: parameters) } ?? []
            masked[stage.name.value] = carried.union(pruned.map(\.name))
            checkTeacher(of: stage, network, shapes, problems)
            if export?.stage.value == stage.name.value { checkExport(of: network, problems) }
            if stage.patience != nil, data.dev == nil {
                problems.add("'early_stop' needs a dev part", at: stage.name.position)
            }
        }
    }

    // A dry run: whatever could not ship is found before the first step. Grids are not there yet.
    private func checkExport(of network: Network, _ problems: RecipeProblems) {
        do {
            let plain = try Network(
                network.architecture, input: network.input, classes: network.classes,
                random: RandomStream(seed: 0))
            _ = try Model(plain.graph())
        } catch {
            problems.add(
                "the network cannot be exported: \(error)",
                at: export?.position ?? RecipePosition(source: path, line: 0, column: 0))
        }
    }

    private func start(
        of stage: Stage, _ shapes: [String: Network], _ problems: RecipeProblems
    ) throws -> (network: Network, masked: Set<String>)? {
        guard let from = stage.startFrom else { return nil }
        if stages.contains(where: { $0.name.value == from.value }) {
            return shapes[from.value].map { ($0, []) }
        }
        do {
            let network = try NetworkFile(contentsOf: file(from.value)).network
            let masked = ParameterSet(network).entries.filter { $0.parameter.mask != nil }
            return (network, Set(masked.map(\.name)))
        } catch {
            problems.add("\(error)", at: from.position)
            throw error
        }
    }

    private func network(
        for stage: Stage, start: Network?, _ data: TaskData, _ problems: RecipeProblems
    ) -> Network? {
        let named = stage.model.flatMap { models[$0.value] }
        guard let architecture = named ?? start?.architecture else { return nil }
        let position = stage.model?.position ?? stage.startFrom?.position ?? stage.name.position
        if let from = stage.startFrom, stage.model != nil, start?.quantization != nil {
            problems.add(
                "'\(from.value)' is quantized, which its own architecture is made for; "
                    + "leave out 'model'", at: position)
            return nil
        }
        do {
            let network = try Network(
                architecture, input: data.input, classes: data.classes,
                quantization: start?.quantization, random: RandomStream(seed: seed))
            if let start { checkShapes(of: stage, network, start, position, problems) }
            return network
        } catch {
            problems.add("\(error)", at: position)
            return nil
        }
    }

    private func checkShapes(
        of stage: Stage, _ network: Network, _ start: Network, _ position: RecipePosition,
        _ problems: RecipeProblems
    ) {
        let theirs = ParameterSet(start)
        for entry in ParameterSet(network).entries {
            let isHead = entry.name.hasPrefix("head.")
            guard !(isHead && stage.hasNewHead), let source = theirs[entry.name],
                source.shape != entry.parameter.shape
            else { continue }
            problems.add(
                "'\(entry.name)' of '\(stage.startFrom?.value ?? "")' has shape \(source.shape), "
                    + "\(entry.parameter.shape) is needed here"
                    + (isHead ? "; say `head: new` for a new one" : ""), at: position)
            return
        }
    }

    private func checkTeacher(
        of stage: Stage, _ network: Network, _ shapes: [String: Network], _ problems: RecipeProblems
    ) {
        guard let reference = stage.distillation?.teacher else { return }
        var teacher = shapes[reference.value]
        if teacher == nil, !stages.contains(where: { $0.name.value == reference.value }) {
            do {
                teacher = try NetworkFile(contentsOf: file(reference.value)).network
            } catch {
                problems.add("\(error)", at: reference.position)
            }
        }
        if let teacher, teacher.input != network.input || teacher.classes != network.classes {
            problems.add(
                "the teacher takes \(teacher.input) to \(teacher.classes) classes, "
                    + "the student \(network.input) to \(network.classes)", at: reference.position)
        }
    }
}

extension Recipe.Report {
    var located: [Located<String>] { [teacher, student] + controls.map(\.stage) }

    var names: [String] { located.map(\.value) }
}
