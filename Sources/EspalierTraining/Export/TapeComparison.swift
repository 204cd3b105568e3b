package import CEspalierKernels
import EspalierData
import EspalierEngine
import EspalierGraph
import EspalierKernels
package import EspalierNN
package import EspalierRuntime
package import EspalierTensors

/// The tape's own forward against the runtime on a set of examples: the runtime is not its own judge.
public struct TapeComparison: Sendable, CustomStringConvertible {
    /// In the order in which they are computed; the first is the input.
    public private(set) var layers: [LayerComparison] = []
    /// Examples compared.
    public private(set) var count = 0
    /// Examples that both give the same class.
    public private(set) var sameClass = 0

    /// Compares a network with a model that was recorded from it.
    init(_ network: Network, _ model: Model, on examples: ImageBatches, batch: Int = 256) {
        for start in stride(from: 0, to: examples.count, by: batch) {
            let indices = start..<min(start + batch, examples.count)
            unsafe add(network, model, examples.batch(indices).images)
        }
    }

    /// - Parameter kernels: Others than the current ones, to see what a fault in them does.
    package init(
        _ network: some Layer, _ model: Model, _ examples: Tensor, kernels: esp_kernels? = nil
    ) {
        unsafe add(network, model, examples, kernels: kernels)
    }

    /// The least share of any layer's codes that are within one step.
    public var codesWithinOne: Double {
        layers.filter(\.isCodes).map { Double($0.withinOne) / Double(max($0.count, 1)) }.min() ?? 1
    }

    public var description: String {
        layers.map { "\($0)\n" }.joined() + "\(sameClass) of \(count) classes equal"
    }

    private mutating func add(
        _ network: some Layer, _ model: Model, _ examples: Tensor, kernels: esp_kernels? = nil
    ) {
        let tape = Tape(mode: .evaluation, isRecording: false)
        tape.keepsValues = true
        let expected = network(tape.input(examples)).tensor
        let kept = tape.keptValues
        var found = Tensor.zeros(expected.shape)
        unsafe model.trace(examples, kernels: kernels, into: &found) { first, operand, value in
            guard let source = model.graph.source(of: operand), kept.indices.contains(source) else {
                return
            }
            let name = model.graph.name(of: operand)
            if !layers.contains(where: { $0.name == name }) {
                layers.append(LayerComparison(name: name))
            }
            guard let place = layers.firstIndex(where: { $0.name == name }) else { return }
            layers[place].add(
                value, first: first, before: count, tape: kept[source],
                grid: model.graph.grid(of: operand))
        }
        if expected.shape.rank == 2 {
            sameClass += zip(expected.largestOfRows, found.largestOfRows).count { $0 == $1 }
        }
        count += examples.shape[0]
    }
}

/// One layer of a comparison.
public struct LayerComparison: Sendable, CustomStringConvertible {
    /// Of the layer, as the file calls it.
    public let name: String
    /// Elements compared.
    public fileprivate(set) var count = 0
    /// Elements of which both have the same code; of floats, those that differ by less than 1e-4.
    public fileprivate(set) var equal = 0
    /// Elements whose codes are at most one apart; of floats, by less than 1e-2.
    public fileprivate(set) var withinOne = 0
    /// Whether the layer leaves codes.
    public fileprivate(set) var isCodes = false
    /// The first element that differs.
    public fileprivate(set) var firstDifference: Difference?

    /// An element and what both made of it: codes, or values.
    public struct Difference: Sendable {
        /// Of the example, counted from 0.
        public let example: Int
        /// Within the example, row-major.
        public let element: Int
        /// What the tape says.
        public let tape: Float
        /// What the runtime says.
        public let runtime: Float
    }

    public var description: String {
        func share(_ part: Int) -> String {
            let hundredths = (Double(part) / Double(max(count, 1)) * 1e5).rounded() / 1e3
            return "\(hundredths) %"
        }
        let first = firstDifference.map {
            "; first at example \($0.example), element \($0.element): tape \($0.tape), "
                + "runtime \($0.runtime)"
        }
        return "\(name): \(share(equal)) of \(count) \(isCodes ? "codes" : "values") equal, "
            + "\(share(withinOne)) within \(isCodes ? "one step" : "0.01")\(first ?? "")"
    }

    fileprivate mutating func add(
        _ value: NodeValue, first: Int, before: Int, tape: Tensor, grid: QuantizationParameters?
    ) {
        let size = tape.count / max(tape.shape[0], 1)
        let expected = tape.span
        func compare(_ index: Int, _ want: Float, _ got: Float, _ exact: Float, _ near: Float) {
            count += 1
            let distance = (want - got).magnitude
            if distance <= near { withinOne += 1 }
            if distance <= exact { equal += 1; return }
            guard firstDifference == nil else { return }
            firstDifference = Difference(
                example: before + first + index / size, element: index % size, tape: want,
                runtime: got)
        }
        switch value {
        case .floats(let values):
            for index in values.indices {
                compare(index, expected[first * size + index], values[index], 1e-4, 1e-2)
            }
        case .codes(let codes):
            guard let grid else { return }
            isCodes = true
            for index in codes.indices {
                let code = Rounding.code(
                    expected[first * size + index], scale: grid.scales[0],
                    zeroPoint: grid.zeroPoints[0], codes: grid.scheme.codes)
                compare(index, Float(code), Float(codes[index]), 0, 1)
            }
        }
    }
}

extension Graph {
    fileprivate func source(of operand: Operand) -> Int? {
        switch operand {
        case .input: input.source
        case .node(let index): nodes[index].source
        case .constant: nil
        }
    }

    fileprivate func name(of operand: Operand) -> String {
        if case .node(let index) = operand { return nodes[index].name }
        return input.name
    }
}
