import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierNN
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import EspalierTraining
import Testing

@Suite("The tape against the runtime") struct TapeComparisonTests {
    @Test("A network of integers gives the tape's codes, layer by layer", arguments: [false, true])
    func integers(masks: Bool) throws {
        let network = QuantizedConvnet(seed: 5, masks: masks)
        let graph = try network.recordedGraph(example: [8, 8, 1]).folded()
        // Everything is fused: the layers, and what has no weights.
        #expect(
            graph.nodes.map(\.name)
                == ["conv1", "max_pool2d1", "conv2", "reshape1", "hidden", "head"])
        let model = try Model(graph)
        #expect(
            model.plan(for: 64).steps.map(\.name) == [
                "quantize", "conv1", "max_pool2d1", "conv2", "hidden", "head",
            ])
        let x = examples(50, [8, 8, 1])
        let comparison = unsafe TapeComparison(network, model, x)
        for layer in comparison.layers where layer.isCodes {
            #expect(layer.withinOne == layer.count, "\(layer)")
            // Biases are whole numbers of sums here, so that a value near a border may fall on the other side.
            #expect(Double(layer.equal) >= 0.99 * Double(layer.count), "\(layer)")
        }
        #expect(comparison.layers.count == 7)
        let (own, tape) = (model.run(x).elements, evaluated(network, x).elements)
        for (a, b) in zip(own, tape) { #expect(abs(a - b) < 0.05) }
    }

    @Test("A planted rounding fault is found, and its layer named")
    func plantedFault() throws {
        let network = QuantizedConvnet(seed: 5)
        let model = try Model(
            network.recordedGraph(example: [8, 8, 1]).folded(), costs: CostTable.denseIsFree)
        let x = examples(50, [8, 8, 1])
        // Codes rounded down instead of to the nearest.
        let faulty: esp_kernels = {
            var kernels = unsafe KernelTable.current
            unsafe kernels.u8s8_dense = { window, layer, image, first, count, kind, y, pitch in
                let plain = unsafe KernelTable.current
                guard kind == ESP_OUT_U8, let window = unsafe window, let layer = unsafe layer
                else {
                    unsafe plain.u8s8_dense(window, layer, image, first, count, kind, y, pitch)
                    return
                }
                let outputs = unsafe Int(layer.pointee.out.outputs)
                var sums = [Int32](repeating: 0, count: count * outputs)
                unsafe sums.withUnsafeMutableBytes {
                    unsafe plain.u8s8_dense(
                        window, layer, image, first, count, ESP_OUT_S32, $0.baseAddress, outputs)
                }
                let out = unsafe layer.pointee.out
                for pixel in 0..<count {
                    for output in 0..<outputs {
                        let sum = Float(sums[pixel * outputs + output])
                        let scaled = unsafe (sum * out.scale[output]).rounded(.down)
                        let code = unsafe min(
                            max(Int32(scaled) + out.zero_point, out.low), out.high)
                        unsafe y?.storeBytes(
                            of: UInt8(code), toByteOffset: pixel * pitch + output, as: UInt8.self)
                    }
                }
            }
            return unsafe kernels
        }()
        let comparison = unsafe TapeComparison(network, model, x, kernels: faulty)
        let bad = comparison.layers.first { Double($0.equal) < 0.99 * Double($0.count) }
        #expect(bad?.name == "conv1")
        #expect(bad?.firstDifference != nil)
    }
}
