import EspalierEngine
import EspalierGraph
import EspalierKernels
import EspalierTensors
import EspalierTesting
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Products of pairs of bfloat16 under linear layers and products of batches.
@Suite(.serialized) struct HalfProductTests {
    private static let extents = [
        [1, 1, 1], [3, 5, 7], [1, 40, 31], [37, 21, 50], [130, 64, 33], [300, 130, 71],
        [96, 512, 301],
    ]

    private func run(
        _ inputs: [Tensor], _ precision: Precision, _ halves: HalfProducts,
        _ body: ([Value]) -> Value
    ) -> [Tensor] {
        HalfProducts.$chosen.withValue(halves) {
            let tape = Tape(mode: .training, precision: precision)
            let values = inputs.map { tape.variable($0) }
            let y = body(values)
            let upstream = normal(y.tensor.shape, 9)
            return [y.tensor]
                + tape.gradients(of: y, upstream: upstream, for: values).values
        }
    }

    /// The largest distance over the root of the mean square.
    private func distance(_ a: Tensor, _ b: Tensor) -> Float {
        let square = b.elements.reduce(0) { $0 + $1 * $1 } / Float(max(b.shape.count, 1))
        let largest = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
        return largest / max(square.squareRoot(), 1e-3)
    }

    /// Near the widened ones by the rounding of sums, near floats by that of factors, and so are all gradients.
    private func check(_ inputs: [Tensor], _ body: ([Value]) -> Value) {
        let native = run(inputs, .bf16, .native, body)
        let widened = run(inputs, .bf16, .widened, body)
        let float = run(inputs, .float, .widened, body)
        for index in native.indices {
            let shapes = inputs.map(\.shape)
            #expect(native[index].shape == float[index].shape)
            #expect(distance(native[index], widened[index]) < 1e-4, "\(index) of \(shapes)")
            #expect(distance(native[index], float[index]) < 0.05, "\(index) of \(shapes)")
        }
    }

    @Test(arguments: extents) func linear(_ extents: [Int]) {
        let (rows, outputs, depth) = (extents[0], extents[1], extents[2])
        let inputs = [normal([rows, depth]), normal([outputs, depth], 2), normal([outputs], 3)]
        check(inputs) { $0[0].linear(weight: $0[1], bias: $0[2]) }
        check(Array(inputs.prefix(2))) { $0[0].linear(weight: $0[1], bias: nil) }
        check(inputs) { $0[0].linear(weight: $0[1], bias: $0[2], activation: .unary(.tanh)) }
    }

    @Test func matMul() {
        check([normal([3, 9, 21]), normal([3, 21, 33], 2)]) { $0[0].matMul($0[1]) }
        // As many as are shared out over the pool, whose threads take the same way.
        check([normal([12, 17, 13]), normal([12, 13, 18], 2)]) { $0[0].matMul($0[1]) }
        check([normal([4, 9, 23]), normal([23, 5], 2)]) { $0[0].matMul($0[1]) }
    }

    /// The activation in the same pass, bit for bit what it is in another one.
    @Test(arguments: extents) func activation(_ extents: [Int]) {
        let (rows, outputs, depth) = (extents[0], extents[1], extents[2])
        let inputs = [normal([rows, depth]), normal([outputs, depth], 2), normal([outputs], 3)]
        let fused = run(inputs, .bf16, .native) {
            $0[0].linear(weight: $0[1], bias: $0[2], activation: .relu)
        }
        let apart = run(inputs, .bf16, .native) { $0[0].linear(weight: $0[1], bias: $0[2]).relu() }
        for (a, b) in zip(fused, apart) { #expect(a.isIdentical(to: b)) }
    }

    @Test(arguments: extents) func sameOnOneThread(_ extents: [Int]) {
        let (rows, outputs, depth) = (extents[0], extents[1], extents[2])
        let inputs = [normal([rows, depth]), normal([outputs, depth], 2), normal([outputs], 3)]
        func results(_ width: Int) -> [Tensor] {
            let before = ThreadPool.shared.width
            ThreadPool.shared.width = width
            defer { ThreadPool.shared.width = before }
            return run(inputs, .bf16, .native) { $0[0].linear(weight: $0[1], bias: $0[2]) }
        }
        for (a, b) in zip(results(1), results(2)) { #expect(a.isIdentical(to: b)) }
    }

    @Test func wrongChoiceEndsTheProcess() async {
        await #expect(processExitsWith: .failure) {
            unsafe setenv("ESPALIER_BF16", "half", 1)
            _ = HalfProducts.current
        }
        await #expect(processExitsWith: .failure) {
            unsafe setenv("ESPALIER_BF16", "native", 1)
            unsafe setenv("ESPALIER_ISA", "scalar", 1)
            _ = HalfProducts.current
        }
    }
}
