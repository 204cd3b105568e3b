import EspalierTraining

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Shows a run on the terminal: one line that is rewritten, or one line an epoch where the output is a file.
final class Progress {
    private let isTerminal = isatty(STDOUT_FILENO) == 1
    private let clock = ContinuousClock()
    private var summary: StageSummary?
    private var stageStart: ContinuousClock.Instant
    private var firstStep = 0
    private var lastShown: ContinuousClock.Instant
    private var lineIsOpen = false

    init() {
        stageStart = clock.now
        lastShown = clock.now
    }

    func show(_ event: RunEvent) {
        switch event {
        case .stageBegan(let summary, let step):
            self.summary = summary
            (stageStart, firstStep) = (clock.now, step)
            line("\n\(heading(summary, step: step))")
            for note in notes(summary) { line("  \(note)") }
        case .note(let text): line(text)
        case .stepped(let progress):
            guard isTerminal, clock.now - lastShown > .milliseconds(100) else { return }
            lastShown = clock.now
            open(status(progress))
        case .epochEnded(let record): line(text(record))
        case .quantized(let record): line(text(record))
        case .exported(let path, let bytes): line("\nexported \(bytes) bytes to \(path)")
        case .testOpened: line("\nreading the test part")
        case .compared(let comparison):
            line("the student on the training tape against the runtime:")
            for text in comparison.description.split(separator: "\n") { line("  \(text)") }
        case .pruned, .calibrated, .writing, .stageEnded: break
        }
        fflush(nil)
    }

    /// Closes a line that is being rewritten.
    func end() {
        if lineIsOpen { print() }
        lineIsOpen = false
    }

    private func heading(_ stage: StageSummary, step: Int) -> String {
        var text =
            "stage \(stage.stage): \(stage.parameters) parameters, \(stage.examples) examples"
        if stage.devExamples > 0 { text += ", \(stage.devExamples) for selection" }
        text += ", \(stage.epochs) epochs of \(stage.steps / max(stage.epochs, 1)) steps"
        if let teacher = stage.teacher { text += ", taught by \(teacher)" }
        text += ", \(max(stage.stepBytes >> 20, 1)) MiB of tensors in a step"
        return step > 0 ? text + ", going on after step \(step)" : text
    }

    private func notes(_ stage: StageSummary) -> [String] {
        // A resumed stage has told it before.
        guard let from = stage.startFrom, !stage.taken.isEmpty else { return [] }
        var notes = ["from \(from): \(stage.taken.count) tensors taken"]
        if !stage.new.isEmpty { notes.append("new: " + stage.new.joined(separator: ", ")) }
        if !stage.unused.isEmpty { notes.append("unused: " + stage.unused.joined(separator: ", ")) }
        return notes
    }

    private func status(_ now: StepProgress) -> String {
        let elapsed = seconds(clock.now - stageStart)
        let rate = Double(now.step - firstStep) / max(elapsed, 1e-9)
        let left = Double(now.steps - now.step) / max(rate, 1e-9)
        return "  epoch \(now.epoch)/\(now.epochs)  step \(now.step)/\(now.steps)"
            + "  loss \(fixed(now.loss, 4))\(sparsity(now.sparsity))"
            + "  \(fixed(rate * Double(now.examples), 0)) examples/s  "
            + "\(duration(left)) left  \(Machine.memoryInUse >> 20) MiB"
    }

    private func text(_ record: EpochRecord) -> String {
        let elapsed = seconds(clock.now - stageStart)
        let done = Double(record.step - firstStep)
        let total = Double((summary?.steps ?? record.step) - record.step)
        var text = "  epoch \(record.epoch)/\(summary?.epochs ?? 0)  loss \(fixed(record.loss, 4))"
        if let accuracy = record.devAccuracy { text += "  dev \(fixed(100 * accuracy, 2)) %" }
        text += sparsity(record.sparsity)
        if done > 0, elapsed > 0, let summary {
            let perStep = Double(summary.examples * summary.epochs) / Double(max(summary.steps, 1))
            text += "  \(fixed(done * perStep / elapsed, 0)) examples/s"
            text += "  \(duration(total * elapsed / done)) left"
        }
        return text + "  \(Machine.memoryInUse >> 20) MiB" + (record.isBest ? "  *" : "")
    }

    private func text(_ record: QuantizationRecord) -> String {
        var text =
            "  quantized after step \(record.step): \(record.parameters.count) weights, activations at "
            + "\(record.sites.count) places"
        if let accuracy = record.devAccuracy { text += "  dev \(fixed(100 * accuracy, 2)) %" }
        return text
    }

    // Every figure of sparsity names what it is a share of.
    private func sparsity(_ share: Double) -> String {
        guard let summary, summary.prunable > 0 else { return "" }
        return "  \(fixed(100 * share, 2)) % of \(summary.prunable) pruned"
    }

    // Cut to the terminal's width: a line that wraps cannot be rewritten.
    private func open(_ text: String) {
        var size = winsize()
        let isKnown = unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        let width = isKnown ? Int(size.ws_col) - 1 : 79
        print("\r\u{1B}[K\(text.prefix(width))", terminator: "")
        lineIsOpen = true
    }

    private func line(_ text: String) {
        if lineIsOpen { print("\r\u{1B}[K", terminator: "") }
        lineIsOpen = false
        print(text)
    }

    private func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    }

    private func duration(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 1e9))
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(whole / 3600) h \(whole % 3600 / 60) min"
    }

    private func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite else { return "\(value)" }
        let scale = Array(repeating: 10.0, count: digits).reduce(1, *)
        let scaled = Int64((abs(value) * scale).rounded())
        let text = String(scaled / Int64(scale))
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + text }
        let fraction = String(scaled % Int64(scale))
        return sign + text + "." + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}
