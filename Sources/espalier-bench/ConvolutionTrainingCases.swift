import CEspalierKernels
import COpenBLAS
import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors

/// Convolutions while training, batch 64, against columns and products by OpenBLAS: an image a task on our threads, one
/// thread a product.
enum ConvolutionTrainingCases {
    private struct Layer {
        let side: Int
        let inputs: Int
        let outputs: Int
        var kernel = 3
        var stride = 1
        let images = 64

        var op: Op.Conv2D {
            Op.Conv2D(stride: Size2D(stride), padding: Padding2D(Size2D(kernel / 2)))
        }
        var outSide: Int { (side + 2 * (kernel / 2) - kernel) / stride + 1 }
        var depth: Int { kernel * kernel * inputs }
        var operations: Int { 2 * images * outSide * outSide * depth * outputs }
        var name: String {
            "\(inputs)->\(outputs) \(side)x\(side) k\(kernel)" + (stride > 1 ? " s\(stride)" : "")
        }
    }

    private static let layers = [
        Layer(side: 28, inputs: 1, outputs: 32), Layer(side: 14, inputs: 32, outputs: 64),
        Layer(side: 28, inputs: 32, outputs: 64), Layer(side: 32, inputs: 3, outputs: 16),
        Layer(side: 32, inputs: 16, outputs: 16), Layer(side: 16, inputs: 32, outputs: 32),
        Layer(side: 8, inputs: 64, outputs: 64),
        Layer(side: 32, inputs: 16, outputs: 32, stride: 2),
        Layer(side: 16, inputs: 32, outputs: 64, stride: 2),
        Layer(side: 32, inputs: 16, outputs: 32, kernel: 1, stride: 2),
        Layer(side: 16, inputs: 64, outputs: 64, kernel: 1),
    ]

    private enum Pass: String, CaseIterable { case forward, dX, dW }

    static var all: [Benchmark] {
        layers.flatMap { layer in
            Pass.allCases.map { pass in
                Benchmark(name: "conv/\(pass.rawValue)") { measure($0, layer, pass) }
            }
        }
    }

    private static func measure(_ meter: Meter, _ layer: Layer, _ pass: Pass) -> Measurement {
        func normal(_ shape: Shape, _ seed: UInt64) -> Tensor {
            Tensor(RandomStream(seed: seed).normal(shape.elementCount), shape: shape)
        }
        let x = normal([layer.images, layer.side, layer.side, layer.inputs], 1)
        let weight = normal([layer.outputs, layer.kernel, layer.kernel, layer.inputs], 2)
        let dy = normal([layer.images, layer.outSide, layer.outSide, layer.outputs], 3)
        func ours() {
            switch pass {
            case .forward: _ = ConvolutionProbe.forward(layer.op, x, weight)
            case .dX: _ = ConvolutionProbe.gradients(layer.op, x, weight, dy, x: true)
            case .dW: _ = ConvolutionProbe.gradients(layer.op, x, weight, dy, weight: true)
            }
        }
        let times = meter.compare(
            ours, { columns(layer, pass, x, weight, dy) })
        return Measurement(
            "conv/\(pass.rawValue)", shape: layer.name, threads: ThreadPool.shared.width,
            rate: { Double(layer.operations) / $0 * 1e-9 }, unit: "GFLOP/s",
            baseline: "columns and OpenBLAS", times)
    }

    private static func columns(
        _ layer: Layer, _ pass: Pass, _ x: Tensor, _ weight: Tensor, _ dy: Tensor
    ) {
        let (pixels, depth, outputs) = (
            layer.outSide * layer.outSide, layer.depth, layer.outputs
        )
        let inCount = layer.side * layer.side * layer.inputs
        let window = esp_window(layer.op.window(weight: weight.shape), image: x.shape)
        let result = unsafe Tensor(
            pass == .dX ? x.shape : pass == .dW ? [16, weight.count] : dy.shape
        ) {
            result in
            unsafe reading(x, weight, dy) { x, weight, dy in
                ThreadPool.shared.forEachChunk(16) { part in
                    if pass == .dW {
                        unsafe (result + part * depth * outputs).update(
                            repeating: 0, count: depth * outputs)
                    }
                    _ = unsafe Tensor([pixels * depth]) { columns in
                        for image in layer.images * part / 16..<layer.images * (part + 1) / 16 {
                            let source = unsafe x + image * inCount
                            let dy = unsafe dy + image * pixels * outputs
                            switch pass {
                            case .forward, .dW:
                                unsafe Kernels.im2col(
                                    window, image: source, first: 0, count: pixels, columns: columns
                                )
                                if pass == .dW {
                                    unsafe BLAS.multiply(
                                        BLAS.Operand(dy, pitch: outputs, transposed: true),
                                        BLAS.Operand(columns, pitch: depth),
                                        into: result + part * depth * outputs, pitch: depth,
                                        rows: outputs, columns: depth, depth: pixels,
                                        accumulates: true)
                                } else {
                                    unsafe BLAS.multiply(
                                        BLAS.Operand(columns, pitch: depth),
                                        BLAS.Operand(weight, pitch: depth, transposed: true),
                                        into: result + image * pixels * outputs, pitch: outputs,
                                        rows: pixels, columns: outputs, depth: depth)
                                }
                            case .dX:
                                unsafe BLAS.multiply(
                                    BLAS.Operand(dy, pitch: outputs),
                                    BLAS.Operand(weight, pitch: depth), into: columns, pitch: depth,
                                    rows: pixels, columns: depth, depth: outputs)
                                let target = unsafe result + image * inCount
                                unsafe target.update(repeating: 0, count: inCount)
                                unsafe Kernels.col2im(
                                    window, columns: columns, first: 0, count: pixels,
                                    image: target)
                            }
                        }
                    }
                }
            }
        }
        if pass == .dW { _ = Kernels.columnSums(result) }
    }
}
