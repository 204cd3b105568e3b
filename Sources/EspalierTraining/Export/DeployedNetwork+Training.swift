import EspalierCodec
import EspalierGraph
import EspalierKernels
import EspalierNN
import EspalierRuntime
import EspalierTensors

extension Architecture {
    /// The same without norms: what an exported network is made of.
    var withoutNorms: Architecture {
        guard case .convnet(let channels, let hidden, let dropout, _) = self else { return self }
        return .convnet(channels: channels, hidden: hidden, dropout: dropout, isFolded: true)
    }
}

extension NetworkFile {
    /// A network to train on with, out of a `.espalier` file: integer weights become the values that they stand for, masks are
    /// kept, grids are not.
    ///
    /// - Throws: `FileError` where the file is missing or damaged, or does not say what it is made of.
    init(deployed path: String) throws(FileError) {
        let bytes = try FileAccess.read(path)
        do {
            let deployed = try DeployedNetwork(bytes: bytes)
            guard let architecture = deployed.information.architecture else {
                throw FileError(
                    path: path, "it does not say what it is made of, to train on with it")
            }
            let (graph, model) = (deployed.model.graph.inFloats, deployed.model)
            let input = Shape(model.inputExtents)
            let classes = model.outputCount
            // What the file does not hold is not allocated.
            let count = try architecture.parameterCount(input: input, classes: classes)
            guard count == model.graph.constants.reduce(0, { $0 + $1.shape.elementCount }) else {
                throw FileError(path: path, "its weights are not those of its architecture")
            }
            let network = try Network(
                architecture, input: input, classes: classes, random: RandomStream(seed: 0))
            let parameters = ParameterSet(network)
            var masks: [String: Mask] = [:]
            var values: [String: Tensor] = [:]
            for (node, original) in zip(graph.nodes, deployed.model.graph.nodes) {
                for (operands, part) in zip(node.operands.dropFirst(), ["weight", "bias"]) {
                    guard case .constant(let index) = operands,
                        case .floats(let tensor) = graph.constants[index].value
                    else { continue }
                    values["\(node.name).\(part)"] = tensor
                }
                guard original.operands.count > 1, case .constant(let index) = original.operands[1]
                else { continue }
                masks[node.name + ".weight"] = deployed.model.graph.constants[index].mask
            }
            for entry in parameters.entries {
                guard let value = values[entry.name], value.shape == entry.parameter.shape else {
                    throw FileError(path: path, "its weights are not those of its architecture")
                }
                entry.parameter.assign(value)
                if let mask = masks[entry.name] { entry.parameter.setMask(mask) }
            }
            let digits = String(Kernels.crc32c(bytes.span), radix: 16)
            self.init(
                description: Description(
                    architecture: architecture, input: model.inputExtents, classes: classes,
                    task: deployed.information.task,
                    largestPixel: deployed.information.largestPixel,
                    lineage: deployed.information.lineage),
                network: network,
                checksum: String(repeating: "0", count: 8 - digits.count) + digits)
        } catch let error as FileError {
            throw error
        } catch {
            throw FileError(path: path, "\(error)")
        }
    }
}
