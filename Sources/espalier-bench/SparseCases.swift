import EspalierEngine
import EspalierKernels
import EspalierTensors
import EspalierTraining

/// Float training products of a sparse linear layer, on activations that are in blocks already, against the same
/// products of a dense one through OpenBLAS, on the same threads.
enum SparseCases {
    private static let tokens = 2048
    private static let shapes = [(384, 1536), (1536, 384), (384, 384), (768, 768)]

    static var all: [Benchmark] {
        let layers = shapes.flatMap { inputs, outputs in
            [0.8, 0.9, 0.95].flatMap { sparsity in
                LivePattern.Block.allCases.flatMap { block in
                    Product.allCases.map { product in
                        Benchmark(name: "sparse/\(block.rawValue)/\(product.rawValue)") {
                            Layer(inputs, outputs, block, sparsity).measure($0, product)
                        }
                    }
                }
            }
        }
        return layers
            + shapes.flatMap { inputs, outputs in
                [
                    Benchmark(name: "sparse/values") {
                        Layer(inputs, outputs, .single, 0.9).measureValues($0)
                    },
                    Benchmark(name: "sparse/convert") { convert($0, columns: inputs) },
                    Benchmark(name: "sparse/norm") { norm($0, columns: inputs) },
                    Benchmark(name: "sparse/residual norm") { residualNorm($0, columns: inputs) },
                    Benchmark(name: "sparse/sums") { sums($0, columns: inputs) },
                ]
            }
    }

    enum Product: String, CaseIterable {
        case forward, inputGradient, weightGradient, all
    }

    /// A layer with random blocks, and its operands both ways.
    struct Layer {
        let inputs: Int
        let outputs: Int
        let sparsity: Double
        let pattern: LivePattern
        let weight: Tensor
        let values: Tensor
        let x: Tensor
        let dy: Tensor
        let blockedX: Tensor
        let blockedDY: Tensor

        init(_ inputs: Int, _ outputs: Int, _ block: LivePattern.Block, _ sparsity: Double) {
            (self.inputs, self.outputs, self.sparsity) = (inputs, outputs, sparsity)
            let random = RandomStream(seed: 1)
            let mask = SparseCases.mask(inputs, outputs, block, sparsity)
            pattern = LivePattern(mask, block: block)
            weight = Kernels.mask(
                Tensor(random.child(1).normal(outputs * inputs), shape: [outputs, inputs]),
                with: mask.words)
            values = pattern.gathered(weight)
            x = Tensor(random.child(2).normal(tokens * inputs), shape: [tokens, inputs])
            dy = Tensor(random.child(3).normal(tokens * outputs), shape: [tokens, outputs])
            blockedX = Kernels.toBlocks(x)
            blockedDY = Kernels.toBlocks(dy)
        }

        func measure(_ meter: Meter, _ product: Product) -> Measurement {
            let (weights, all) = (SparseWeights(values, pattern), product == .all)
            let times = meter.compare(
                {
                    // The values of a step are put in the kernels' order once.
                    let weights = all ? SparseWeights(values, pattern) : weights
                    if all || product == .forward { _ = Kernels.sparseLinear(blockedX, weights) }
                    if all || product == .inputGradient {
                        _ = Kernels.sparseLinearInputGradient(blockedDY, weights)
                    }
                    if all || product == .weightGradient {
                        _ = Kernels.sparseLinearWeightGradient(
                            blockedX, upstream: blockedDY, pattern)
                    }
                },
                {
                    if all || product == .forward {
                        dense(x, false, weight, true, tokens, outputs, inputs)
                    }
                    if all || product == .inputGradient {
                        dense(dy, false, weight, false, tokens, inputs, outputs)
                    }
                    if all || product == .weightGradient {
                        dense(dy, true, x, false, outputs, inputs, tokens)
                    }
                })
            let operations =
                2 * Double(tokens) * Double(pattern.count) * (all ? 3 : 1)
            return Measurement(
                "sparse/\(pattern.block.rawValue)/\(product.rawValue)",
                shape: "\(tokens)x\(outputs)x\(inputs) \(Int((100 * sparsity).rounded())) %",
                threads: Machine.threads, rate: { operations / $0 * 1e-9 }, unit: "GFLOP/s live",
                baseline: "dense, OpenBLAS in our tiles", times)
        }

        func measureValues(_ meter: Meter) -> Measurement {
            let weights = SparseWeights(values, pattern)
            let times = meter.compare(
                { _ = SparseWeights(values, pattern) },
                {
                    _ = Kernels.sparseLinear(blockedX, weights)
                    _ = Kernels.sparseLinearInputGradient(blockedDY, weights)
                    _ = Kernels.sparseLinearWeightGradient(blockedX, upstream: blockedDY, pattern)
                })
            return Measurement(
                "sparse/values", shape: "\(outputs)x\(inputs) 90 %", threads: Machine.threads,
                rate: { Double(pattern.count) / $0 * 1e-9 }, unit: "Gvalue/s",
                baseline: "the three products", times)
        }
    }

    private static func convert(_ meter: Meter, columns: Int) -> Measurement {
        let x = Tensor(RandomStream(seed: 1).normal(tokens * columns), shape: [tokens, columns])
        let blocks = Kernels.toBlocks(x)
        let times = meter.compare(
            { _ = Kernels.toBlocks(x) }, { _ = Kernels.fromBlocks(blocks, tokens: tokens) })
        return Measurement(
            "sparse/convert", shape: "\(tokens)x\(columns)", threads: Machine.threads,
            rate: { Double(x.count) * 8 / $0 * 1e-9 }, unit: "GB/s", baseline: "the way back", times
        )
    }

    private static func norm(_ meter: Meter, columns: Int) -> Measurement {
        let x = Tensor(RandomStream(seed: 1).normal(tokens * columns), shape: [tokens, columns])
        let blocks = Kernels.toBlocks(x)
        let times = meter.compare(
            {
                let y = Kernels.normalizeBlocks(blocks, epsilon: 1e-5)
                _ = Kernels.normalizeBlocksGradients(
                    normal: y.result, inverse: y.inverse, upstream: blocks)
            },
            {
                let y = Kernels.layerNorm(
                    x, residual: nil, scale: nil, shift: nil, axisCount: 1, isCentred: true,
                    epsilon: 1e-5, keepsNormal: true)
                _ = Kernels.layerNormGradients(
                    normal: y.result, inverse: y.inverse, scale: nil, upstream: x,
                    isCentred: true, needsInput: true, needsScale: false, needsShift: false)
            })
        return Measurement(
            "sparse/norm", shape: "\(tokens)x\(columns)", threads: Machine.threads,
            rate: { Double(x.count) / $0 * 1e-9 }, unit: "Gelement/s",
            baseline: "the norm of rows and its gradient", times)
    }

    /// A norm as transformers have it: of a sum of two, with a scale and a shift, and all gradients.
    private static func residualNorm(_ meter: Meter, columns: Int) -> Measurement {
        let random = RandomStream(seed: 1)
        func normal(_ shape: Shape, _ child: UInt64) -> Tensor {
            Tensor(random.child(child).normal(shape.elementCount), shape: shape)
        }
        let (x, residual) = (normal([tokens, columns], 0), normal([tokens, columns], 1))
        let (scale, shift) = (normal([columns], 2), normal([columns], 3))
        let (blocks, more) = (Kernels.toBlocks(x), Kernels.toBlocks(residual))
        let times = meter.compare(
            {
                let y = Kernels.normalizeBlocks(
                    blocks, residual: more, scale: scale, shift: shift, epsilon: 1e-5)
                _ = Kernels.normalizeBlocksGradients(
                    normal: y.normal ?? y.result, inverse: y.inverse, scale: scale,
                    upstream: blocks, needsScale: true, needsShift: true)
            },
            {
                let y = Kernels.layerNorm(
                    x, residual: residual, scale: scale, shift: shift, axisCount: 1,
                    isCentred: true, epsilon: 1e-5, keepsNormal: true)
                _ = Kernels.layerNormGradients(
                    normal: y.normal ?? y.result, inverse: y.inverse, scale: scale, upstream: x,
                    isCentred: true, needsInput: true, needsScale: true, needsShift: true)
            })
        return Measurement(
            "sparse/residual norm", shape: "\(tokens)x\(columns)", threads: Machine.threads,
            rate: { Double(x.count) / $0 * 1e-9 }, unit: "Gelement/s",
            baseline: "the norm of rows and its gradients", times)
    }

    private static func sums(_ meter: Meter, columns: Int) -> Measurement {
        let x = Tensor(RandomStream(seed: 1).normal(tokens * columns), shape: [tokens, columns])
        let blocks = Kernels.toBlocks(x)
        let times = meter.compare(
            { _ = Kernels.blockSums(blocks, tokens: tokens) }, { _ = Kernels.columnSums(x) })
        return Measurement(
            "sparse/sums", shape: "\(tokens)x\(columns)", threads: Machine.threads,
            rate: { Double(x.count) / $0 * 1e-9 }, unit: "Gelement/s",
            baseline: "the sums of columns of rows", times)
    }

    private static func dense(
        _ a: Tensor, _ transposesA: Bool, _ b: Tensor, _ transposesB: Bool, _ rows: Int,
        _ columns: Int, _ depth: Int
    ) {
        _ = unsafe Tensor([rows, columns]) { c in
            unsafe reading(a, b) { a, b in
                unsafe BLAS.multiplyTiled(
                    BLAS.Operand(a, pitch: transposesA ? rows : depth, transposed: transposesA),
                    BLAS.Operand(b, pitch: transposesB ? depth : columns, transposed: transposesB),
                    into: c, pitch: columns, rows: rows, columns: columns, depth: depth)
            }
        }
    }

    private static func mask(
        _ inputs: Int, _ outputs: Int, _ block: LivePattern.Block, _ sparsity: Double
    ) -> Mask {
        let (tall, wide) = (block.outputs, block.inputs)
        let across = (inputs + wide - 1) / wide
        let live = RandomStream(seed: 5).uniform((outputs + tall - 1) / tall * across).map {
            Double($0) >= sparsity
        }
        return Mask(shape: [outputs, inputs]) {
            live[$0 / inputs / tall * across + $0 % inputs / wide]
        }
    }
}
