package import EspalierCodec
import EspalierInterchange
import EspalierKernels
import EspalierNN
import EspalierTensors
import Foundation

/// Where a stage stands: all that the next step depends on, besides network and optimizer.
struct StageState: Codable, Equatable {
    /// Passes finished.
    var epoch = 0
    /// Steps done in the pass that is under way.
    var stepInEpoch = 0
    /// Steps done in the stage.
    var step = 0
    /// Sum of the losses of the pass, as bits: exact.
    var lossBits: UInt64 = 0
    /// Examples in that sum.
    var examples = 0
    /// The best result on the dev part so far.
    var best: DevResult?
    /// The last one.
    var latest: DevResult?
    /// Passes since the best one.
    var passesWithoutBest = 0
    /// Bytes of the run's log that belong to what is done.
    var logBytes = 0
    /// Steps behind the network that the stage started from.
    var stepsBefore = 0
    /// The step before which the network was quantized and the optimizer began anew.
    var quantizedAt: Int?
    /// Whether the stage has left its network.
    var isComplete = false

    var lossSum: Double {
        get { Double(bitPattern: lossBits) }
        set { lossBits = newValue.bitPattern }
    }
}

/// A result on the dev part. The better one classifies more; among equals its loss is smaller.
struct DevResult: Codable, Equatable {
    var correct: Int
    var count: Int
    var loss: Double
    /// Counted from 1.
    var epoch: Int

    var accuracy: Double { Double(correct) / Double(max(count, 1)) }

    func isBetter(than other: DevResult?) -> Bool {
        guard let other else { return true }
        return correct != other.correct ? correct > other.correct : loss < other.loss
    }
}

/// The state of a stage in a file: what a resume continues from, bit for bit.
package struct Checkpoint {
    var state: StageState
    let network: Network
    let description: NetworkFile.Description
    var optimizer: OptimizerState
    /// Of the recipe that the run follows.
    let recipe: String

    init(
        state: StageState, network: Network, description: NetworkFile.Description,
        optimizer: OptimizerState, recipe: String
    ) {
        self.state = state
        self.network = network
        self.description = description
        self.optimizer = optimizer
        self.recipe = recipe
    }

    private static let prefix = "optimizer."

    func write(to path: String, observe: (FileAccess.WriteStep) -> Void) throws {
        var writer = try NetworkFile.writer(network, description)
        writer.metadata["format"] = "espalier-checkpoint"
        writer.metadata["state"] = try NetworkFile.json(state)
        writer.metadata["optimizer_step"] = String(optimizer.step)
        writer.metadata["recipe"] = recipe
        for slot in optimizer.slots.keys.sorted() {
            for (name, tensor) in (optimizer.slots[slot] ?? [:]).sorted(by: { $0.key < $1.key }) {
                // Whole, whatever layout it is held in.
                writer.add(
                    "\(Checkpoint.prefix)\(slot).\(name)",
                    Kernels.converted(tensor, to: .rowMajor))
            }
        }
        try FileAccess.writeAtomically(writer.encoded(), to: path, observe: observe)
    }

    /// Reads a checkpoint.
    ///
    /// - Throws: `FileError` where it is missing, damaged, or not a checkpoint.
    package init(contentsOf path: String) throws(FileError) {
        let file = try SafeTensors(contentsOf: path, requiresChecksum: true)
        guard file.metadata["format"] == "espalier-checkpoint",
            let json = file.metadata["state"],
            let state = try? JSONDecoder().decode(StageState.self, from: Data(json.utf8)),
            let step = file.metadata["optimizer_step"].flatMap(Int.init),
            let recipe = file.metadata["recipe"]
        else { throw FileError(path: path, "it is not a checkpoint of ours") }
        (network, description) = try NetworkFile.network(in: file)
        self.state = state
        self.recipe = recipe
        optimizer = OptimizerState()
        optimizer.step = step
        let set = ParameterSet(network)
        for key in file.entries.keys.sorted() where key.hasPrefix(Checkpoint.prefix) {
            let parts = key.dropFirst(Checkpoint.prefix.count).split(separator: ".", maxSplits: 1)
            let tensor = try file.tensor(key)
            guard parts.count == 2, set[String(parts[1])]?.shape == tensor.shape else {
                throw FileError(path: path, "'\(key)' belongs to no parameter")
            }
            optimizer.slots[String(parts[0]), default: [:]][String(parts[1])] = tensor
        }
    }
}
