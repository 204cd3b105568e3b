import EspalierTensors
import EspalierTesting
import Testing

/// Random shapes with extents that are often 1, prime or, where asked, 0.
func randomShapes(_ count: Int, seed: UInt64, maximumRank: Int = 4, allowsEmpty: Bool = true)
    -> [Shape]
{
    let extents = [1, 1, 2, 3, 5, 7, 4] + (allowsEmpty ? [0] : [])
    let random = RandomStream(seed: seed)
    return (0..<count).map { index in
        let draw = random.child(UInt64(index)).integers(9, below: 840)
        return Shape((0..<draw[8] % (maximumRank + 1)).map { extents[draw[$0] % extents.count] })
    }
}

/// A tensor whose elements are their own indices.
func counting(_ shape: Shape) -> Tensor {
    Tensor((0..<shape.elementCount).map(Float.init), shape: shape)
}

/// All indices of a shape in row-major order.
func indices(of shape: Shape) -> [[Int]] {
    shape.reduce([[]]) { prefixes, extent in
        prefixes.flatMap { prefix in (0..<extent).map { prefix + [$0] } }
    }
}

func offset(_ index: [Int], in shape: Shape) -> Int {
    zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 }
}

@Suite struct TensorTests {
    @Test func writesDoNotReachCopies() {
        let original = counting([2, 3])
        var copy = original
        var reshaped = original.reshaped(to: [6])
        unsafe copy.writing { unsafe $0[0] = 100 }
        var span = reshaped.mutableSpan
        span[5] = 200
        #expect(original.elements == [0, 1, 2, 3, 4, 5])
        #expect(copy.elements == [100, 1, 2, 3, 4, 5])
        #expect(reshaped.elements == [0, 1, 2, 3, 4, 200])
    }

    @Test func aSingleOwnerWritesInPlace() {
        func address(_ tensor: Tensor) -> UInt { unsafe tensor.reading { UInt(bitPattern: $0) } }
        var tensor = counting([1_000])
        let before = address(tensor)
        unsafe tensor.writing { unsafe $0[7] = -1 }
        #expect(address(tensor) == before)
        let shared = tensor
        unsafe tensor.writing { unsafe $0[7] = -2 }
        #expect(address(tensor) != before)
        #expect(address(shared) == before)
        #expect(shared.elements[7] == -1)
    }

    @Test func reshapedKeepsTheElementsWithoutACopy() {
        let tensor = counting([4, 6])
        let other = tensor.reshaped(to: [3, 8])
        #expect(other.shape == [3, 8])
        #expect(other.elements == tensor.elements)
        let addresses = [tensor, other].map { unsafe $0.reading { UInt(bitPattern: $0) } }
        #expect(addresses[0] == addresses[1])
    }

    @Test func permutedMovesEveryElement() {
        for (index, shape) in randomShapes(60, seed: 1).enumerated() {
            let order = RandomStream(seed: UInt64(index)).permutation(shape.rank)
            let tensor = counting(shape)
            let moved = tensor.permuted(order)
            #expect(moved.shape == Shape(order.map { shape[$0] }))
            let (from, to) = (tensor.elements, moved.elements)
            for index in indices(of: shape) {
                let target = offset(order.map { index[$0] }, in: moved.shape)
                #expect(to[target] == from[offset(index, in: shape)])
            }
            var inverse = [Int](repeating: 0, count: order.count)
            for (position, axis) in order.enumerated() { inverse[axis] = position }
            #expect(moved.permuted(inverse).isIdentical(to: tensor))
        }
    }

    @Test func broadcastRepeatsAndSummedAddsUp() {
        for (number, target) in randomShapes(80, seed: 2).enumerated() {
            // Outer axes dropped, others cut down to 1.
            let draw = RandomStream(seed: UInt64(number)).integers(8, below: 2)
            let dropped = target.rank == 0 ? 0 : number % (target.rank + 1)
            let shape = Shape(
                target.enumerated().dropFirst(dropped).map { draw[$0.offset] == 0 ? 1 : $0.element }
            )
            func source(_ index: [Int]) -> Int {
                offset(zip(index.dropFirst(dropped), shape).map { $0.1 == 1 ? 0 : $0.0 }, in: shape)
            }
            let tensor = counting(shape)
            let wide = tensor.broadcast(to: target)
            #expect(wide.shape == target)
            let (from, to) = (tensor.elements, wide.elements)
            for (flat, index) in indices(of: target).enumerated() {
                #expect(to[flat] == from[source(index)])
            }
        }
    }

    @Test func identityIsThatOfBits() {
        let nan = Float(bitPattern: 0x7FC0_1234)
        let tensor = Tensor([0, 1, nan], shape: [3])
        #expect(tensor.isIdentical(to: Tensor([0, 1, nan], shape: [3])))
        #expect(!tensor.isIdentical(to: Tensor([-0.0, 1, nan], shape: [3])))
        #expect(!tensor.isIdentical(to: Tensor([0, 1, .nan], shape: [3])))
        #expect(!tensor.isIdentical(to: Tensor([0, 1, nan], shape: [1, 3])))
        #expect(Tensor.zeros([0]).isIdentical(to: Tensor([], shape: [0])))
    }

    @Test func findsWhatIsNotFinite() {
        var elements = [Float](repeating: 1, count: 40)
        #expect(Tensor(elements, shape: [40]).firstNonFinite == nil)
        elements[37] = -.infinity
        #expect(Tensor(elements, shape: [40]).firstNonFinite == 37)
        elements[12] = .nan
        #expect(Tensor(elements, shape: [40]).firstNonFinite == 12)
    }

    @Test func spansSeeEveryElement() {
        let shapes: [Shape] = [[], [0], [1], [17], [3, 5, 7]]
        for shape in shapes {
            var tensor = counting(shape)
            #expect(tensor.span.count == shape.elementCount)
            var span = tensor.mutableSpan
            for index in span.indices { span[index] += 1 }
            #expect(tensor.elements == (0..<shape.elementCount).map { Float($0 + 1) })
        }
        #expect(Tensor(3.5).scalar == 3.5)
        #expect(Tensor(3.5).shape.rank == 0)
    }

    @Test func mistakesTrap() async {
        await #expect(processExitsWith: .failure) { _ = Tensor([1, 2], shape: [3]) }
        await #expect(processExitsWith: .failure) { _ = Tensor.zeros([2, 3]).reshaped(to: [5]) }
        await #expect(processExitsWith: .failure) {
            _ = Tensor.zeros([2, 3]).broadcast(to: [2, 4])
        }
        await #expect(processExitsWith: .failure) { _ = Tensor.zeros([2, 3]).permuted([0, 0]) }
    }
}

@Suite struct ShapeTests {
    @Test func countsAndStrides() {
        for shape in randomShapes(60, seed: 3, maximumRank: 5) {
            #expect(shape.elementCount == shape.reduce(1, *))
            #expect(shape.strides.count == shape.rank)
            for index in indices(of: shape) {
                let position = zip(index, shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
                #expect(position == offset(index, in: shape))
            }
        }
        #expect(Shape().elementCount == 1)
        #expect(Shape([2, 0, 3]).elementCount == 0)
    }

    @Test func equalityIsThatOfExtents() {
        #expect(Shape([2, 3]) != Shape([2, 3, 1]))
        #expect(Shape([2]) != Shape([2, 0]))
        #expect(Set([Shape([1, 2]), Shape([1, 2]), Shape([2, 1])]).count == 2)
        #expect(Shape([4, 5]).description == "[4, 5]")
        var shape: Shape = [1, 2, 3]
        shape[1] = 9
        #expect(shape == [1, 9, 3])
    }

    @Test func negativeAxesCountFromTheEnd() {
        let shape: Shape = [2, 3, 4]
        #expect((-3..<3).map { shape.normalized(axis: $0) } == [0, 1, 2, 0, 1, 2])
    }

    @Test func broadcastingIsSymmetricAndAgreesWithStrides() {
        let shapes = randomShapes(40, seed: 4, maximumRank: 3)
        for a in shapes {
            for b in shapes {
                let both = a.broadcast(with: b)
                #expect(both == b.broadcast(with: a))
                if let both {
                    #expect(a.broadcastStrides(to: both) != nil, "\(a) to \(both)")
                    #expect(b.broadcastStrides(to: both) != nil, "\(b) to \(both)")
                } else {
                    #expect(a.broadcastStrides(to: b) == nil)
                }
            }
        }
        let pair: (Shape, Shape) = ([2, 1, 3], [5, 1])
        #expect(pair.0.broadcast(with: pair.1) == [2, 5, 3])
        #expect(Shape([1]).broadcast(with: [0]) == [0])
        #expect(Shape([2]).broadcast(with: [0]) == nil)
    }

    @Test func mistakesTrap() async {
        await #expect(processExitsWith: .failure) { _ = Shape([1, -1]) }
        await #expect(processExitsWith: .failure) { _ = Shape([Int(Int32.max) + 1]) }
        await #expect(processExitsWith: .failure) { _ = Shape(Array(repeating: 1, count: 9)) }
        await #expect(processExitsWith: .failure) { _ = Shape([2, 3]).normalized(axis: 2) }
        await #expect(processExitsWith: .failure) { _ = Shape([2, 3])[2] }
    }
}
