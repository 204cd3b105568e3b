import EspalierData
import EspalierEngine
import EspalierNN
import EspalierTensors

// A stage's network gives way to its quantized form.
extension StageRunner {
    /// Batches that ranges are found on before the first step that goes by them.
    private static let calibrationBatches = 8

    /// Quantizes the network where the recipe says so before the next step, or at the stage's end.
    func quantizeWhereDue() throws {
        guard let quantization = stage.quantization, state.quantizedAt == nil,
            state.step >= time.at(quantization.begin)
        else { return }
        let network = try trainee.network.quantized(quantization.schemes)
        try calibrate(network)
        // Moments of the network of floats, norms and all, say nothing about this one: the optimizer begins anew.
        trainee = Trainee(network, stage, time, random)
        description.architecture = network.architecture
        description.quantization = network.quantization
        state.quantizedAt = state.step
        try evaluate()
        let record = QuantizationRecord(
            stage: stage.name.value, step: state.step,
            parameters: parameters.entries.filter { $0.parameter.quantization != nil }.map(\.name),
            sites: network.sites.map { name, site in
                let range = site.movingRange
                return QuantizationRecord.Site(
                    name: name, low: Double(range.low), high: Double(range.high))
            }, devAccuracy: state.latest?.accuracy, devLoss: state.latest?.loss)
        try context.log.append(record)
        try save()
        context.observe(.quantized(record))
    }

    // On the first batches of the pass that is under way, as they are, in evaluation mode.
    private func calibrate(_ network: Network) throws {
        let order = data.train.order(epoch: state.epoch, random: random)
        let batches = min(StageRunner.calibrationBatches, time.stepsPerEpoch)
        for batch in 0..<batches {
            let start = batch * stage.batch
            let indices = order[start..<min(start + stage.batch, order.count)]
            let tape = Tape(mode: .evaluation, isRecording: false, observesRanges: true)
            _ = network(tape.input(data.train.batch(indices).images))
            QuantizationSite.fold(tape.observedRanges)
            context.observe(.calibrated(batch: batch + 1, of: batches))
        }
        for (name, site) in network.sites where site.parameters == nil {
            throw diverged("the values at '\(name)' have no finite range")
        }
    }
}
