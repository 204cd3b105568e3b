package import EspalierTensors

extension Op {
    /// Images of another size: each row and column of the result is a weighted sum of a few neighbouring ones.
    /// x [N, H, W, C]
    package struct Resample: Operation {
        /// How, with its frozen number.
        package enum Kind: Int, Sendable, Hashable, CaseIterable {
            /// The mean of the pixels that a result's pixel covers at least a part of: adaptive average pooling.
            case average = 0
            /// The pixel that a result's first corner lies in.
            case nearest = 1
            /// Between the two next pixels, whose centres are half a pixel from the edges.
            case linear = 2
            /// Between the two next pixels, where the outermost ones of both images coincide.
            case linearCorners = 3
        }

        package let kind: Kind
        package let size: Size2D

        package init(_ kind: Kind, to size: Size2D) {
            self.kind = kind
            self.size = size
        }

        package func outputShape(_ inputs: [Shape]) throws(ShapeError) -> Shape {
            let x = inputs[0]
            let extents = 1...Int(Int32.max)
            guard x.rank == 4, x[1] > 0, x[2] > 0, extents.contains(size.height),
                extents.contains(size.width)
            else {
                throw ShapeError(
                    "resample: \(x) [N, H, W, C] to \(size.height)x\(size.width)")
            }
            return [x[0], size.height, size.width, x[3]]
        }

        /// For each of `count` places along an axis of `extent`: the first place in x and the weights from there on.
        package func taps(_ extent: Int, to count: Int) -> [(first: Int, weights: [Float])] {
            (0..<count).map { place in
                switch kind {
                case .average:
                    let first = place * extent / count
                    let end = ((place + 1) * extent + count - 1) / count
                    let weight = 1 / Float(end - first)
                    return (first, [Float](repeating: weight, count: end - first))
                case .nearest: return (place * extent / count, [1])
                case .linear:
                    let centre = (Double(place) + 0.5) * Double(extent) / Double(count) - 0.5
                    return Resample.between(max(centre, 0), extent)
                case .linearCorners:
                    let step = count > 1 ? Double(extent - 1) / Double(count - 1) : 0
                    return Resample.between(Double(place) * step, extent)
                }
            }
        }

        private static func between(
            _ place: Double, _ extent: Int
        ) -> (first: Int, weights: [Float]) {
            let first = min(Int(place), extent - 1)
            let share = Float(place - Double(first))
            return first + 1 < extent ? (first, [1 - share, share]) : (first, [1])
        }
    }
}

extension Op.Resample {
    /// Tag 1 the kind's number; tag 2 height and width.
    var attributes: [Opset.Attribute] {
        [Opset.Attribute(1, [kind.rawValue]), Opset.Attribute(2, [size.height, size.width])]
    }

    init(_ fields: inout AttributeFields) throws(OpsetError) {
        let code = try fields.integers(1, count: 1...1, in: 0...fields.largest)[0]
        let size = try fields.integers(2, count: 2...2, in: 1...fields.largest)
        guard let kind = Kind(rawValue: code) else {
            throw OpsetError("resampling \(code) is not known")
        }
        self.init(kind, to: Size2D(size[0], size[1]))
    }
}
