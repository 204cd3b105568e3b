import EspalierEngine
import EspalierGraph
import EspalierTensors

/// A tensor in double precision that is read and made index by index: what references are written in.
struct Naive: Sendable {
    var shape: [Int]
    var values: [Double]

    /// Each element from its index.
    init(_ shape: [Int], _ element: ([Int]) -> Double) {
        self.shape = shape
        values = []
        let count = shape.reduce(1, *)
        values.reserveCapacity(count)
        var index = [Int](repeating: 0, count: shape.count)
        for _ in 0..<count {
            values.append(element(index))
            for axis in shape.indices.reversed() {
                index[axis] += 1
                if index[axis] < shape[axis] { break }
                index[axis] = 0
            }
        }
    }

    init(_ tensor: Tensor) {
        shape = Array(tensor.shape)
        values = tensor.elements.map(Double.init)
    }

    /// The element at an index, which may have more axes in front and numbers beyond an extent of 1.
    subscript(index: [Int]) -> Double {
        let own = index.suffix(shape.count)
        var place = 0
        for (extent, number) in zip(shape, own) {
            place = place * extent + (extent == 1 ? 0 : number)
        }
        return values[place]
    }

    func map(_ body: (Double) -> Double) -> Naive {
        var result = self
        result.values = values.map(body)
        return result
    }

    /// Extents that all of some shapes are repeated to.
    static func broadcast(_ shapes: [[Int]]) -> [Int] {
        let rank = shapes.map(\.count).max() ?? 0
        return (0..<rank).map { axis in
            let extents = shapes.compactMap { shape in
                let own = axis - rank + shape.count
                return own < 0 ? nil : shape[own]
            }
            return extents.first { $0 != 1 } ?? 1
        }
    }

    /// An element of each of two, broadcast.
    static func combine(_ a: Naive, _ b: Naive, _ body: (Double, Double) -> Double) -> Naive {
        Naive(broadcast([a.shape, b.shape])) { body(a[$0], b[$0]) }
    }

    /// What lies along some axes, for each place along the others, as a number. Reduced axes keep the extent 1.
    func reduced(_ axes: [Int], _ body: ([Double]) -> Double) -> Naive {
        var kept = shape
        for axis in axes { kept[axis] = 1 }
        var groups = [[Double]](repeating: [], count: kept.reduce(1, *))
        let places = Naive(shape) { index in
            var place = 0
            for (axis, extent) in kept.enumerated() {
                place = place * extent + (axes.contains(axis) ? 0 : index[axis])
            }
            return Double(place)
        }
        for (place, value) in zip(places.values, values) { groups[Int(place)].append(value) }
        var result = Naive(kept) { _ in 0 }
        result.values = groups.map(body)
        return result
    }

    func reshaped(_ shape: [Int]) -> Naive {
        var result = self
        result.shape = shape
        return result
    }
}

/// Numbers drawn one after the other.
struct Draw {
    private let stream: RandomStream
    private let isWide: Bool
    private var count: UInt64 = 0

    /// - Parameter isWide: Whether an axis has more elements than any vector, loop or thread takes at a time.
    init(_ name: String, _ seed: Int, isWide: Bool) {
        stream = RandomStream(seed: UInt64(seed)).child(name)
        self.isWide = isWide
    }

    mutating func next(_ range: ClosedRange<Int>) -> Int {
        count += 1
        return range.lowerBound + stream.child(count).integers(1, below: range.count)[0]
    }

    mutating func pick<Element>(_ elements: [Element]) -> Element {
        elements[next(0...elements.count - 1)]
    }

    /// Nothing, one, and primes.
    mutating func extent() -> Int { pick([0, 0, 1, 1, 2, 3, 3, 5, 7, 11, 13, 17]) }

    mutating func extents(_ ranks: ClosedRange<Int>) -> [Int] {
        let rank = next(ranks)
        // Of high rank, few elements each.
        var result = (0..<rank).map { _ in rank > 3 ? pick([0, 1, 2, 3, 3]) : extent() }
        if isWide, rank > 0 { result[next(0...rank - 1)] = pick([67, 131, 257, 521]) }
        return result
    }

    mutating func normal(_ shape: [Int]) -> Tensor {
        count += 1
        let shape = Shape(shape)
        return Tensor(stream.child(count).normal(shape.elementCount), shape: shape)
    }

    /// At least a half, so that logarithms and quotients are tame.
    mutating func positive(_ shape: [Int]) -> Tensor {
        let x = normal(shape)
        return Tensor(x.elements.map { abs($0) + 0.5 }, shape: x.shape)
    }

    mutating func indices(_ shape: [Int], below bound: Int) -> IndexTensor {
        count += 1
        let size = shape.reduce(1, *)
        let drawn = size == 0 ? [] : stream.child(count).integers(size, below: bound)
        return IndexTensor(drawn.map { Int32($0) }, shape: Shape(shape))
    }

    mutating func bits(_ shape: [Int]) -> Tensor {
        let drawn = indices(shape, below: 2)
        return Tensor(drawn.elements.map(Float.init), shape: drawn.shape)
    }

    /// A shape that can be broadcast to this one: some axes of 1, some outer ones left out.
    mutating func narrowed(_ shape: [Int]) -> [Int] {
        let narrow = shape.map { next(0...2) == 0 ? 1 : $0 }
        return next(0...2) == 0 ? Array(narrow.dropFirst(next(0...shape.count))) : narrow
    }

    /// Two shapes that fit each other.
    mutating func pair(_ ranks: ClosedRange<Int>) -> ([Int], [Int]) {
        let shape = extents(ranks)
        return (narrowed(shape), narrowed(shape))
    }
}

/// An op at some shapes, and its definition.
struct PropertyCase: Sendable {
    let name: String
    let inputs: [Tensor]
    var tolerance = 2e-5
    /// Whether difference quotients can be trusted near these inputs.
    var isSmooth = true
    let body: @Sendable ([Value]) -> Value
    let reference: @Sendable ([Naive]) -> Naive

    /// A case with the shapes in its name.
    init(
        _ name: String, _ inputs: [Tensor], isSmooth: Bool = true,
        _ body: @escaping @Sendable ([Value]) -> Value,
        is reference: @escaping @Sendable ([Naive]) -> Naive
    ) {
        self.name = name + " of " + inputs.map(\.shape.description).joined(separator: ", ")
        self.inputs = inputs
        self.isSmooth = isSmooth
        self.body = body
        self.reference = reference
    }

    /// What the op gives that its definition does not, nil where they agree.
    func difference() -> String? {
        let tape = Tape(mode: .training)
        let got = body(inputs.map { tape.variable($0) }).tensor
        let want = reference(inputs.map(Naive.init))
        guard Array(got.shape) == want.shape else { return "shape \(got.shape), not \(want.shape)" }
        let largest = want.values.reduce(1) { $1.isFinite ? max($0, abs($1)) : $0 }
        for (index, (value, truth)) in zip(got.elements, want.values).enumerated() {
            if Double(value) == truth || (value.isNaN && truth.isNaN) { continue }
            if abs(Double(value) - truth) <= tolerance * largest { continue }
            return "element \(index) of \(got.shape) is \(value), not \(truth)"
        }
        return nil
    }

    /// Of a size at which every element can be moved.
    var isSmall: Bool { inputs.reduce(0) { $0 + $1.count } <= 80 }
}
