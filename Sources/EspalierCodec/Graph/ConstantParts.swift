import EspalierGraph
import EspalierTensors

/// The constants of a layer, being read from its sub-layers' headers: mask, scale and zero point before the elements.
struct ConstantParts {
    private let subLayers: [ContainerNetwork.SubLayer]
    private let layer: UInt32
    private let layerName: String
    private var blocks: ArraySlice<Int>
    private var names: ArraySlice<Int>?
    private var schemes: ArraySlice<Int>?
    private var index = 0

    init(
        subLayers: [ContainerNetwork.SubLayer], layer: UInt32, layerName: String, blocks: [Int],
        names: [Int]?, schemes: [Int]?
    ) {
        self.subLayers = subLayers
        self.layer = layer
        self.layerName = layerName
        self.blocks = blocks[...]
        self.names = names.map { $0[...] }
        self.schemes = schemes.map { $0[...] }
    }

    /// The next constant.
    ///
    /// - Throws: `OpsetError` where its parts do not fit each other.
    mutating func next(isBias: Bool) throws(OpsetError) -> GraphOutline.Constant {
        let mask = take(.mask), scale = take(.scale), zeroPoint = take(.zeroPoint)
        guard let elements = take(isBias ? .bias : .weight) else {
            throw OpsetError(
                "tensor \(index) is no \(isBias ? "bias" : "weight"), or not in its place")
        }
        let header = subLayers[elements]
        let shape = try shape(header.dims)
        let content: ConstantContent
        switch header.type {
        case .f32: content = .floats
        case .i8:
            guard let scale else { throw OpsetError("codes without a scale") }
            content = .codes(
                try scheme(shape, subLayers[scale], zeroPoint.map { subLayers[$0] }))
        case .i32 where header.dims.count == 1 && header.coding == .all: content = .sums
        default: throw OpsetError("elements of a type that they cannot have")
        }
        guard scale == nil || header.type == .i8, zeroPoint == nil || scale != nil else {
            throw OpsetError("a scale of what are no codes")
        }
        return GraphOutline.Constant(
            name: try name(isBias: isBias), shape: shape, content: content, layer: layer,
            elements: elements, mask: mask, scale: scale, zeroPoint: zeroPoint,
            blocks: try maskBlocks(shape, mask.map { subLayers[$0] }, header))
    }

    /// Makes sure that nothing is left.
    func finish() throws(OpsetError) {
        guard index == subLayers.count, blocks.isEmpty, names?.isEmpty ?? true,
            schemes?.isEmpty ?? true
        else { throw OpsetError("parts of constants are left over") }
    }

    private mutating func take(_ kind: ContainerNetwork.Kind) -> Int? {
        guard index < subLayers.count, subLayers[index].kind == kind else { return nil }
        index += 1
        return index - 1
    }

    private func shape(_ dims: [UInt32]) throws(OpsetError) -> Shape {
        guard dims.allSatisfy({ $0 > 0 && $0 <= Graph.maximumElements }) else {
            throw OpsetError("a tensor of \(dims)")
        }
        let shape = Shape(dims.map { Int($0) })
        guard shape.hasSize(upTo: Graph.maximumElements) else {
            throw OpsetError("a tensor of \(dims)")
        }
        return shape
    }

    private mutating func scheme(
        _ shape: Shape, _ scale: ContainerNetwork.SubLayer,
        _ zeroPoint: ContainerNetwork.SubLayer?
    ) throws(OpsetError) -> QuantizationScheme {
        var (bits, isSymmetric, axis) = (8, true, scale.dims.isEmpty ? -1 : 0)
        if schemes != nil {
            guard let values = schemes?.prefix(3), values.count == 3 else {
                throw OpsetError("a scheme is missing")
            }
            schemes = schemes?.dropFirst(3)
            (bits, axis) = (values[values.startIndex], values[values.startIndex + 2])
            isSymmetric = values[values.startIndex + 1] == 1
            guard (0...1).contains(values[values.startIndex + 1]) else {
                throw OpsetError("an impossible scheme")
            }
        }
        let channels = axis < 0 ? [] : axis < shape.rank ? [UInt32(shape[axis])] : nil
        guard (2...8).contains(bits), axis >= -1, scale.type == .f32, scale.dims == channels,
            scale.coding == .all, isSymmetric == (zeroPoint == nil),
            zeroPoint.map({ $0.type == .i32 && $0.dims == scale.dims && $0.coding == .all })
                ?? true
        else { throw OpsetError("scales that do not fit their codes") }
        return QuantizationScheme(
            bits: bits, isSigned: true, isSymmetric: isSymmetric,
            granularity: axis < 0 ? .tensor : .channel(axis: axis))
    }

    private mutating func maskBlocks(
        _ shape: Shape, _ mask: ContainerNetwork.SubLayer?, _ elements: ContainerNetwork.SubLayer
    ) throws(OpsetError) -> MaskBlocks? {
        guard let mask else {
            guard elements.coding == .all else { throw OpsetError("live blocks without a mask") }
            return nil
        }
        let own = Array(blocks.prefix(2))
        blocks = blocks.dropFirst(2)
        guard own.count == 2,
            let blocks = MaskBlocks(outputs: own[0], inputs: own[1], over: shape)
        else { throw OpsetError("a mask of blocks \(own) over \(shape)") }
        guard elements.coding == .live, mask.type == .u8, mask.coding == .all,
            mask.dims == [UInt32(blocks.bitmapBytes)]
        else { throw OpsetError("a mask that does not fit its tensor") }
        return blocks
    }

    private mutating func name(isBias: Bool) throws(OpsetError) -> String {
        guard let length = names?.first else {
            guard names == nil else { throw OpsetError("a constant's name is missing") }
            return layerName + (isBias ? ".bias" : ".weight")
        }
        let rest = names?.dropFirst() ?? []
        guard length >= 0, length <= rest.count else { throw OpsetError("a damaged name") }
        let bytes = rest.prefix(length).compactMap { UInt8(exactly: $0) }
        guard bytes.count == length, let name = String(validating: bytes, as: UTF8.self) else {
            throw OpsetError("a damaged name")
        }
        names = rest.dropFirst(length)
        return name
    }
}
