import CEspalierKernels
import EspalierKernels
import EspalierTensors
import Testing

/// Sums in double precision, from rows.
private struct Reference {
    var z: [Double] = []
    var dx: [Double] = []
    var dw: [Double] = []
    /// The sums of what is added, without signs.
    var sizes: (z: [Double], dx: [Double], dw: [Double]) = ([], [], [])

    init(
        x: [Float], dy: [Float], weight: [Float], bias: [Float], tokens: Int, outputs: Int,
        inputs: Int
    ) {
        z = (0..<tokens * outputs).map { Double(bias[$0 % outputs]) }
        dx = [Double](repeating: 0, count: tokens * inputs)
        dw = [Double](repeating: 0, count: outputs * inputs)
        sizes = (z.map(abs), dx, dw)
        for t in 0..<tokens {
            for n in 0..<outputs {
                let g = Double(dy[t * outputs + n])
                for k in 0..<inputs {
                    let (w, v) = (Double(weight[n * inputs + k]), Double(x[t * inputs + k]))
                    z[t * outputs + n] += w * v
                    dx[t * inputs + k] += w * g
                    dw[n * inputs + k] += g * v
                    sizes.z[t * outputs + n] += abs(w * v)
                    sizes.dx[t * inputs + k] += abs(w * g)
                    sizes.dw[n * inputs + k] += abs(g * v)
                }
            }
        }
    }
}

private func expectClose(
    _ got: [Float], _ want: [Double], _ sizes: [Double], terms: Int, _ context: String
) {
    guard got.count == want.count else {
        Issue.record("\(context): \(got.count) results for \(want.count)")
        return
    }
    for index in got.indices {
        let bound = floatEpsilon * Double(terms + 4) * (sizes[index] + 1e-30)
        if !(abs(Double(got[index]) - want[index]) <= bound) {
            Issue.record("\(context) at \(index): \(got[index]), wanted \(want[index])")
            return
        }
    }
}

/// A mask of blocks; density 0 and 1 are none and all. Whole rows and columns of blocks are left out.
private func blockMask(
    _ outputs: Int, _ inputs: Int, _ block: LivePattern.Block, density: Double, seed: UInt64
) -> Mask {
    let (tall, wide) = (block.outputs, block.inputs)
    let across = (inputs + wide - 1) / wide
    let drawn = RandomStream(seed: seed).uniform((outputs + tall - 1) / tall * across)
    return Mask(shape: [outputs, inputs]) {
        let (row, column) = ($0 / inputs / tall, $0 % inputs / wide)
        let isKept = density >= 1 || (row % 5 != 3 && column % 7 != 2)
        return isKept && Double(drawn[row * across + column]) < density
    }
}

@Suite(.serialized) struct SparseLinearTests {
    private static let shapes = [(1, 1), (4, 4), (5, 3), (31, 67), (64, 150), (131, 37)]

    @Test(arguments: LivePattern.Block.allCases) func agreesWithDense(_ block: LivePattern.Block) {
        let tokenCounts = [0, 1, 63, 64, 65, 130, 1000]
        for (index, (outputs, inputs)) in SparseLinearTests.shapes.enumerated() {
            for density in [0, 0.05, 0.2, 0.6, 1] {
                let seed = UInt64(index)
                let mask = blockMask(outputs, inputs, block, density: density, seed: seed)
                // A span that is smaller than the shape, and the one in use.
                let patterns = [
                    LivePattern(mask, block: block),
                    LivePattern(mask, block: block, spans: (24, 16)),
                ]
                for tokens in tokenCounts where tokens < 1000 || (index > 3 && density == 0.2) {
                    for pattern in patterns {
                        check(pattern, mask, tokens: tokens, seed: seed)
                    }
                }
            }
        }
    }

    private func check(_ pattern: LivePattern, _ mask: Mask, tokens: Int, seed: UInt64) {
        let (outputs, inputs) = (pattern.outputs, pattern.inputs)
        let context = "\(pattern.block.rawValue), \(tokens) x \(outputs) x \(inputs)"
        let random = RandomStream(seed: seed + 10)
        let x = Tensor(random.child(0).normal(tokens * inputs), shape: [tokens, inputs])
        let dy = Tensor(random.child(1).normal(tokens * outputs), shape: [tokens, outputs])
        let bias = Tensor(random.child(2).normal(outputs), shape: [outputs])
        let weight = Kernels.mask(
            Tensor(random.child(3).normal(outputs * inputs), shape: [outputs, inputs]),
            with: mask.words)
        let values = pattern.gathered(weight)
        #expect(values.count == mask.liveCount)
        #expect(pattern.scattered(values).isIdentical(to: weight))
        let weights = SparseWeights(values, pattern)
        var blockedX = Kernels.toBlocks(x)
        let blockedDY = Kernels.toBlocks(dy)
        #expect(Kernels.fromBlocks(blockedX, tokens: tokens).isIdentical(to: x))
        if tokens % 64 != 0 {
            // What fills up an operand may be anything finite.
            let first = blockedX.count - inputs * 64
            var elements = blockedX.mutableSpan
            for c in 0..<inputs {
                for t in tokens % 64..<64 { elements[first + c * 64 + t] = 1e3 }
            }
        }
        let want = Reference(
            x: x.elements, dy: dy.elements, weight: weight.elements, bias: bias.elements,
            tokens: tokens, outputs: outputs, inputs: inputs)

        let (z, none) = Kernels.sparseLinear(blockedX, weights, bias: bias)
        #expect(none == nil)
        let rows = Kernels.fromBlocks(z, tokens: tokens)
        expectClose(rows.elements, want.z, want.sizes.z, terms: inputs, "z of \(context)")
        let (relu, _) = Kernels.sparseLinear(blockedX, weights, bias: bias, then: .relu)
        #expect(relu.isIdentical(to: Kernels.relu(z)))
        let (again, gelu) = Kernels.sparseLinear(blockedX, weights, bias: bias, then: .gelu)
        #expect(again.isIdentical(to: z))
        #expect(gelu?.isIdentical(to: Kernels.unary(ESP_GELU, z)) == true)

        let dx = Kernels.sparseLinearInputGradient(blockedDY, weights)
        expectClose(
            Kernels.fromBlocks(dx, tokens: tokens).elements, want.dx, want.sizes.dx,
            terms: outputs, "dX of \(context)")
        expectPadding(dx, tokens: tokens)
        let sum = Kernels.sparseLinearInputGradient(blockedDY, weights, addedTo: dx)
        expectClose(
            Kernels.fromBlocks(sum, tokens: tokens).elements, want.dx.map { 2 * $0 },
            want.sizes.dx.map { 2 * $0 }, terms: outputs, "dX twice of \(context)")

        let dw = Kernels.sparseLinearWeightGradient(blockedX, upstream: blockedDY, pattern)
        let live = (0..<mask.shape.elementCount).filter { mask.isLive($0) }
        expectClose(
            dw.elements, live.map { want.dw[$0] }, live.map { want.sizes.dw[$0] },
            terms: tokens, "dW of \(context)")
    }

    private func expectPadding(_ gradient: Tensor, tokens: Int) {
        guard tokens % 64 != 0 else { return }
        let columns = gradient.shape[1]
        let elements = gradient.elements.suffix(columns * 64)
        let isZero = elements.indices.allSatisfy {
            ($0 - elements.startIndex) % 64 < tokens % 64 || elements[$0] == 0
        }
        #expect(isZero, "what fills up a gradient of \(tokens) tokens")
    }

    @Test(arguments: LivePattern.Block.allCases)
    func sameBytesForAnyThreads(_ block: LivePattern.Block) {
        let mask = blockMask(150, 70, block, density: 0.2, seed: 3)
        let pattern = LivePattern(mask, block: block)
        let random = RandomStream(seed: 4)
        let values = Tensor(random.child(0).normal(pattern.count), shape: [pattern.count])
        let x = Tensor(random.child(1).normal(1500 * 70), shape: [1500, 70])
        let dy = Tensor(random.child(2).normal(1500 * 150), shape: [1500, 150])
        func run(_ width: Int) -> [Tensor] {
            let before = ThreadPool.shared.width
            ThreadPool.shared.width = width
            defer { ThreadPool.shared.width = before }
            let (x, dy) = (Kernels.toBlocks(x), Kernels.toBlocks(dy))
            let weights = SparseWeights(values, pattern)
            return [
                Kernels.sparseLinear(x, weights).z,
                Kernels.sparseLinearInputGradient(dy, weights),
                Kernels.sparseLinearWeightGradient(x, upstream: dy, pattern),
            ]
        }
        let (one, two) = (run(1), run(2))
        #expect(zip(one, two).allSatisfy { $0.isIdentical(to: $1) })
    }

    /// Norms and sums of blocks against those of rows.
    @Test(arguments: [0, 1, 64, 65, 300]) func normsAgreeWithRows(_ tokens: Int) {
        let columns = 37
        let random = RandomStream(seed: 6)
        let shape: Shape = [tokens, columns]
        let x = Tensor(random.child(0).normal(tokens * columns), shape: shape)
        let residual = Tensor(random.child(1).normal(tokens * columns), shape: shape)
        let dz = Tensor(random.child(2).normal(tokens * columns), shape: shape)
        let scale = Tensor(random.child(3).normal(columns), shape: [columns])
        let shift = Tensor(random.child(4).normal(columns), shape: [columns])
        let rows = Kernels.layerNorm(
            x, residual: residual, scale: scale, shift: shift, axisCount: 1, isCentred: true,
            epsilon: 1e-5, keepsNormal: true)
        let got = Kernels.normalizeBlocks(
            Kernels.toBlocks(x), residual: Kernels.toBlocks(residual), scale: scale, shift: shift,
            epsilon: 1e-5)
        func expect(_ blocks: Tensor?, _ want: Tensor?, _ name: String) {
            let got = blocks.map { Kernels.fromBlocks($0, tokens: tokens).elements }
            for (a, b) in zip(got ?? [], want?.elements ?? []) where !(abs(a - b) < 1e-4) {
                Issue.record("\(name) of \(tokens) tokens: \(a), wanted \(b)")
                return
            }
        }
        #expect(got.result.elements.allSatisfy { $0.isFinite })
        expect(got.normal, rows.normal, "norm")
        expect(got.result, rows.result, "affine norm")
        let blockedDZ = Kernels.toBlocks(dz)
        let gradients = Kernels.normalizeBlocksGradients(
            normal: got.normal ?? got.result, inverse: got.inverse, scale: scale,
            upstream: blockedDZ, needsScale: true, needsShift: true)
        let want = Kernels.layerNormGradients(
            normal: rows.normal ?? rows.result, inverse: rows.inverse, scale: scale, upstream: dz,
            isCentred: true, needsInput: true, needsScale: true, needsShift: true)
        expect(gradients.input, want.input, "dx")
        if let dx = gradients.input { expectPadding(dx, tokens: tokens) }
        let none = Tensor.zeros([columns])
        let sums = Kernels.blockSums(
            blockedDZ, times: got.normal ?? got.result, tokens: tokens)
        for (a, b) in [
            (gradients.shift, Kernels.columnSums(dz)), (gradients.scale, want.scale ?? none),
            (sums.sums, want.shift ?? none), (sums.products, want.scale ?? none),
        ] {
            #expect(a?.shape == [columns])
            #expect(zip(a?.elements ?? [], b.elements).allSatisfy { abs($0 - $1) < 1e-2 })
        }
    }

    /// Numbers far from zero, and columns far from the others, cost no precision.
    @Test(arguments: [false, true]) func normsOfBlocksAreAccurate(_ isSpread: Bool) {
        let (tokens, columns) = (64, 400)
        let x = Tensor(
            RandomStream(seed: 6).normal(tokens * columns).enumerated().map {
                $1 + (isSpread ? $0 % columns == 3 ? 300 : 0 : 1000)
            }, shape: [tokens, columns])
        let got = Kernels.fromBlocks(
            Kernels.normalizeBlocks(Kernels.toBlocks(x), epsilon: 1e-5).result, tokens: tokens)
        for row in 0..<tokens {
            let values = (0..<columns).map { Double(x.span[row * columns + $0]) }
            let mean = values.reduce(0, +) / Double(columns)
            let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
            let deviation = (squares / Double(columns) + 1e-5).squareRoot()
            // In parts of the larger of 1 and the truth.
            let worst = (0..<columns).map {
                let truth = (values[$0] - mean) / deviation
                return abs(Double(got.span[row * columns + $0]) - truth) / max(abs(truth), 1)
            }.max()
            #expect((worst ?? 1) < 2e-6)
        }
    }

    @Test func costsAreData() throws {
        let costs = try #require(SparseFloatCosts.shipped(.avx512))
        func pays(_ block: LivePattern.Block, _ density: Double) -> Bool {
            let mask = blockMask(384, 384, block, density: density, seed: 1)
            return LivePattern(mask, block: block).pays(costs: costs)
        }
        for block in LivePattern.Block.allCases {
            #expect(pays(block, 0.1))
            #expect(!pays(block, 1))
        }
        #expect(!LivePattern(blockMask(64, 64, .single, density: 0, seed: 1)).pays(costs: nil))
    }

    @Test func findsBlocks() {
        for block in LivePattern.Block.allCases {
            for (outputs, inputs) in [(64, 64), (30, 41)] {
                let mask = blockMask(outputs, inputs, block, density: 0.3, seed: 8)
                #expect(LivePattern(mask).block == block)
                #expect(LivePattern(mask).count == mask.liveCount)
            }
        }
        // Taps and channels of a convolution are inputs.
        let mask = Mask(shape: [8, 3, 3, 4]) { $0 % 3 == 0 }
        #expect(LivePattern(mask).inputs == 36)
    }

    /// Blocks that a mask does not fill count as zeros.
    @Test func takesBlocksThatAreNotFull() {
        let mask = blockMask(33, 50, .single, density: 0.2, seed: 9)
        for block in LivePattern.Block.allCases {
            check(LivePattern(mask, block: block), mask, tokens: 70, seed: 2)
        }
    }

    /// A token that is not a number stays in its own row, and in what reads it.
    @Test func nanStaysWhereItIs() {
        let mask = Mask(shape: [9, 200]) { ($0 / 200) % 3 == 0 && $0 % 200 % 11 == 5 }
        let pattern = LivePattern(mask, block: .single)
        let values = Tensor(repeating: 1, shape: [pattern.count])
        var x = Tensor.zeros([64, 200])
        var elements = x.mutableSpan
        elements[7 * 200] = .nan
        let z = Kernels.sparseLinear(Kernels.toBlocks(x), SparseWeights(values, pattern)).z
        #expect(z.firstNonFinite == nil)
    }
}
