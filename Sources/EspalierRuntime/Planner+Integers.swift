import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

// Layers of integers: dense or sparse, as the cost table says.
extension Planner {
    /// Adds the steps of a layer that runs on integers.
    mutating func addInteger(
        _ index: Int, _ shape: LayerShape, _ integers: IntegerLayer
    ) throws(GraphError) {
        let node = graph.nodes[index]
        guard let source = codes(node.operands[0]) else {
            throw GraphError("its input is no codes")
        }
        let target =
            integers.givesCodes
            ? slot(bytes: shape.output.count) : floatSlot(for: .node(index))
        switch sparseForm(shape, integers) {
        case .linear(let block)?:
            let layer = sparse(index, shape, integers, block)
            let scratch = slot(bytes: 0, extra: SparseLinearStep.scratchBytes(layer))
            add(
                SparseLinearStep(
                    name: node.name, layer: layer, source: source, target: target,
                    scratch: scratch, input: shape.input, output: shape.output))
        case .convolution(let geometry, let block)?:
            let layer = sparse(index, shape, integers, block)
            let scratch = slot(bytes: 0, extra: geometry.scratchBytes(for: layer))
            add(
                SparseConvolutionStep(
                    name: node.name, layer: layer, geometry: geometry, source: source,
                    target: target, scratch: scratch, output: shape.output))
        case nil:
            var shape = shape
            var geometry = shape.window.map { DenseInt8Step.Geometry.window($0) } ?? .rows
            if let convolution = shape.window.flatMap({ DenseConvolution($0) }) {
                (shape.taps, shape.channels) = (convolution.taps, convolution.channels)
                geometry = .convolution(
                    convolution, scratch: slot(bytes: 0, extra: convolution.scratchBytes))
            }
            add(
                DenseInt8Step(
                    name: node.name, layer: dense(index, shape, integers), geometry: geometry,
                    source: source, target: target, input: shape.input, output: shape.output,
                    givesCodes: integers.givesCodes))
        }
        if integers.givesCodes {
            setCodes(.node(index), target)
        } else {
            setFloats(.node(index), target)
            try finish(index)
        }
    }

    private enum SparseForm {
        case linear(SparseInt8.Block)
        case convolution(PlanarConvolution, SparseInt8.Block)
    }

    // The cheapest sparse kernel, where it is cheaper than the dense one; nil for dense.
    private func sparseForm(_ shape: LayerShape, _ integers: IntegerLayer) -> SparseForm? {
        guard integers.givesCodes,
            SparseInt8.fits(outputs: shape.outputs, taps: shape.taps, channels: shape.channels)
        else { return nil }
        var best: (form: SparseForm, cost: Double)?
        for block in [SparseInt8.Block.oneByFour, .fourByFour] {
            let entries = integers.weights.liveBlocks(block, shape)
            if let window = shape.window {
                // Images that are computed together fill blocks, and cache lines, but must stay near.
                for images in [1, 4, 16, 64] where images <= capacity {
                    guard
                        let geometry = PlanarConvolution(window, block: block, images: images),
                        costs.choose(
                            block: block, entries: entries, outputs: shape.outputs, geometry)
                            == .sparse
                    else { continue }
                    let cost =
                        costs.sparse(
                            block: block, entries: entries, outputs: shape.outputs, geometry)
                        / Double(images)
                    if cost < best?.cost ?? .infinity {
                        best = (.convolution(geometry, block), cost)
                    }
                }
            } else {
                let rows = capacity * shape.input.pixels
                guard
                    costs.choose(
                        block: block, entries: entries, outputs: shape.outputs,
                        inputs: shape.channels, rows: rows) == .sparse
                else { continue }
                let cost = costs.sparse(
                    block: block, entries: entries, outputs: shape.outputs, inputs: shape.channels,
                    rows: rows)
                if cost < best?.cost ?? .infinity { best = (.linear(block), cost) }
            }
        }
        return best?.form
    }

    private func dense(
        _ index: Int, _ shape: LayerShape, _ integers: IntegerLayer
    ) -> DenseInt8 {
        let layer = packed.layer(PackedLayers.Key(node: index, form: .dense)) {
            .dense(
                DenseInt8(
                    integers.weights.codes, outputs: shape.outputs, taps: shape.taps,
                    channels: shape.channels, inputZeroPoint: integers.inputZeroPoint,
                    integers.requantization))
        }
        guard case .dense(let layer) = layer else { fatalError("a dense layer packed otherwise") }
        return layer
    }

    private func sparse(
        _ index: Int, _ shape: LayerShape, _ integers: IntegerLayer, _ block: SparseInt8.Block
    ) -> SparseInt8 {
        let layer = packed.layer(PackedLayers.Key(node: index, form: .sparse(block))) {
            .sparse(
                SparseInt8(
                    integers.weights.codes, outputs: shape.outputs, taps: shape.taps,
                    channels: shape.channels, block: block,
                    inputZeroPoint: integers.inputZeroPoint, integers.requantization))
        }
        guard case .sparse(let layer) = layer else { fatalError("a sparse layer packed otherwise") }
        return layer
    }
}

extension QuantizedTensor {
    /// The blocks that are not all zero, in weights of a layer.
    func liveBlocks(_ block: SparseInt8.Block, _ shape: Planner.LayerShape) -> Int {
        let (rows, channels) = (block == .oneByFour ? 1 : 4, shape.channels)
        let width = shape.taps * channels
        var live = 0
        for output in stride(from: 0, to: shape.outputs, by: rows) {
            for tap in 0..<shape.taps {
                for first in stride(from: 0, to: channels, by: 4) {
                    let last = min(first + 4, channels)
                    let isLive = (output..<min(output + rows, shape.outputs)).contains { row in
                        let start = row * width + tap * channels
                        return codes[start + first..<start + last].contains { $0 != 0 }
                    }
                    if isLive { live += 1 }
                }
            }
        }
        return live
    }
}
