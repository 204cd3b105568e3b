import EspalierCodec
import EspalierInterchange
package import EspalierTensors
import Foundation

/// One file of golden vectors: operands, attributes, and the results that another program computed.
package struct GoldenCase {
    package let name: String
    package let op: String
    private let file: SafeTensors
    private let attributes: [String: Any]
    private let tolerances: [String: [String: Double]]
    private let rtol: Double
    private let atol: Double

    package init(contentsOf path: String) throws {
        let file = try SafeTensors(contentsOf: path)
        func metadata(_ key: String) throws -> String {
            guard let value = file.metadata[key] else {
                throw FileError(path: path, "a golden file needs the metadata '\(key)'")
            }
            return value
        }
        func object(_ key: String) throws -> [String: Any] {
            let json = try JSONSerialization.jsonObject(with: Data(metadata(key).utf8))
            return json as? [String: Any] ?? [:]
        }
        self.file = file
        name = try metadata("case")
        op = try metadata("op")
        attributes = try object("attributes")
        rtol = try Double(metadata("rtol")) ?? 0
        atol = try Double(metadata("atol")) ?? 0
        tolerances = try object("tolerances").compactMapValues { value in
            (value as? [String: Any])?.compactMapValues { ($0 as? NSNumber)?.doubleValue }
        }
    }

    // MARK: Attributes

    package func has(_ name: String) -> Bool { file.entries[name] != nil }

    /// Whether the operand is read through steps that no part of the file has as a tensor.
    package var names: [String] { file.entries.keys.sorted() }

    package func number(_ key: String, default value: Double) -> Double {
        (attributes[key] as? NSNumber)?.doubleValue ?? value
    }

    package func int(_ key: String, default value: Int) -> Int {
        Int(number(key, default: Double(value)))
    }

    package func bool(_ key: String, default value: Bool) -> Bool {
        (attributes[key] as? NSNumber)?.boolValue ?? value
    }

    package func string(_ key: String) -> String? { attributes[key] as? String }

    package func ints(_ key: String) -> [Int]? {
        if let number = attributes[key] as? NSNumber { return [number.intValue] }
        return (attributes[key] as? [NSNumber])?.map(\.intValue)
    }

    /// Lists of numbers, some of them null.
    package func lists(_ key: String) -> [[Int?]] {
        (attributes[key] as? [[Any]] ?? []).map { $0.map { ($0 as? NSNumber)?.intValue } }
    }

    package func numbers(_ key: String) -> [Double]? {
        (attributes[key] as? [NSNumber])?.map(\.doubleValue)
    }

    package func object(_ key: String) -> [String: Any] { attributes[key] as? [String: Any] ?? [:] }

    /// A pair such as stride or padding, from one number or two.
    package func pair(_ key: String, default value: Int) -> (height: Int, width: Int) {
        let values = ints(key) ?? [value]
        return (values[0], values.count > 1 ? values[1] : values[0])
    }

    // MARK: Tensors

    /// A tensor as stored, whatever its type, as floats.
    package func tensor(_ name: String) throws -> Tensor {
        guard let entry = file.entries[name] else { throw GoldenError("no tensor '\(name)'") }
        switch entry.type {
        case .f32, .f64, .f16, .bf16: return try file.tensor(name)
        default:
            let integers = try file.integers(name)
            return Tensor(integers.elements.map(Float.init), shape: integers.shape)
        }
    }

    package func integers(_ name: String) throws -> IndexTensor { try file.integers(name) }

    package func doubles(_ name: String) throws -> [Double] { try file.doubles(name) }

    /// The operand as the op meets it, and the way its gradient takes back to the stored tensor.
    package func operand(_ name: String) throws -> (value: Tensor, back: (Tensor) -> Tensor) {
        let stored = try tensor(name)
        guard let views = object("views")[name] as? [[Any]] else { return (stored, { $0 }) }
        var view = View(shape: Array(stored.shape))
        for step in views { try view.apply(step) }
        let (positions, shape) = (view.positions, Shape(view.shape))
        let elements = stored.elements
        let value = Tensor(positions.map { elements[$0] }, shape: shape)
        return (
            value,
            { gradient in
                var sums = [Float](repeating: 0, count: stored.count)
                for (position, part) in zip(positions, gradient.elements) { sums[position] += part }
                return Tensor(sums, shape: stored.shape)
            }
        )
    }

    // MARK: Comparison

    /// What differs between `got` and the stored tensor, nil where it is within the tolerance.
    package func difference(_ name: String, _ got: Tensor) throws -> String? {
        let want = try tensor(name)
        guard got.shape == want.shape else {
            return "\(name): shape \(got.shape), expected \(want.shape)"
        }
        let own = tolerances[name] ?? [:]
        let (rtol, atol) = (own["rtol"] ?? rtol, own["atol"] ?? atol)
        for (index, (g, w)) in zip(got.elements, want.elements).enumerated() {
            if g == w || (g.isNaN && w.isNaN) { continue }
            if abs(Double(g) - Double(w)) <= atol + rtol * abs(Double(w)) { continue }
            return "\(name)[\(index)]: \(g), expected \(w) (rtol \(rtol), atol \(atol))"
        }
        return nil
    }

    /// Those of the file's tensors that are results.
    package var results: [String] {
        names.filter { name in
            ["output.", "grad.", "expected."].contains { name.hasPrefix($0) }
        }
    }
}

package struct GoldenError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// A stored tensor read through transpositions, slices and so on, as positions in it.
private struct View {
    var shape: [Int]
    var positions: [Int]

    init(shape: [Int]) {
        self.shape = shape
        positions = Array(0..<shape.reduce(1, *))
    }

    mutating func apply(_ step: [Any]) throws {
        func int(_ index: Int) -> Int? {
            index < step.count ? (step[index] as? NSNumber)?.intValue : nil
        }
        switch step.first as? String {
        case "transpose":
            var order = Array(shape.indices)
            order.swapAt(int(1) ?? 0, int(2) ?? 0)
            permute(order)
        case "permute": permute((step[1] as? [NSNumber])?.map(\.intValue) ?? [])
        case "slice":
            let axis = int(1) ?? 0
            let by = int(4) ?? 1
            let start = int(2) ?? 0
            let end = int(3) ?? shape[axis]
            let taken = Array(
                stride(
                    from: start < 0 ? start + shape[axis] : start,
                    to: min(end < 0 ? end + shape[axis] : end, shape[axis]), by: by))
            var target = shape
            target[axis] = taken.count
            gather(target) { index in
                var index = index
                index[axis] = taken[index[axis]]
                return index
            }
        case "select":
            let (axis, at) = (int(1) ?? 0, int(2) ?? 0)
            var target = shape
            target.remove(at: axis)
            gather(target) { index in
                var index = index
                index.insert(at, at: axis)
                return index
            }
        case "expand":
            let target = (step[1] as? [NSNumber])?.map(\.intValue) ?? shape
            let source = shape
            let extents = zip(target, target.indices).map { extent, axis in
                extent < 0 ? source[axis - (target.count - source.count)] : extent
            }
            gather(extents) { index in
                source.indices.map { axis in
                    source[axis] == 1 ? 0 : index[axis + extents.count - source.count]
                }
            }
        default: throw GoldenError("unknown view step \(step)")
        }
    }

    private mutating func permute(_ order: [Int]) {
        gather(order.map { shape[$0] }) { index in
            var source = index
            for (axis, from) in order.enumerated() { source[from] = index[axis] }
            return source
        }
    }

    private mutating func gather(_ target: [Int], _ source: ([Int]) -> [Int]) {
        let strides = Shape(shape).strides
        var result: [Int] = []
        var index = [Int](repeating: 0, count: target.count)
        for _ in 0..<target.reduce(1, *) {
            result.append(positions[zip(source(index), strides).reduce(0) { $0 + $1.0 * $1.1 }])
            for axis in target.indices.reversed() {
                index[axis] += 1
                if index[axis] < target[axis] { break }
                index[axis] = 0
            }
        }
        (shape, positions) = (target, result)
    }
}
