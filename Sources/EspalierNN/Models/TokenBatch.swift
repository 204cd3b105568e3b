public import EspalierTensors

/// Sequences of token ids, padded to one length.
public struct TokenBatch: Sendable {
    /// [B, L]
    public let ids: IndexTensor
    /// 1 for tokens that count, 0 for padding; nil where all do. [B, L]
    public let mask: Tensor?
    /// Which part each token belongs to; nil where all belong to part 0. [B, L]
    public let types: IndexTensor?

    /// Sequences of ids.
    ///
    /// - Precondition: ids have two axes, and mask and types their shape.
    public init(ids: IndexTensor, mask: Tensor? = nil, types: IndexTensor? = nil) {
        require(
            ids.shape.rank == 2 && mask.map { $0.shape == ids.shape } ?? true
                && types.map { $0.shape == ids.shape } ?? true,
            "ids of shape \(ids.shape) with a mask of \(mask?.shape ?? []) and types of "
                + "\(types?.shape ?? [])")
        self.ids = ids
        self.mask = mask
        self.types = types
    }

    /// Of each sequence, padding included.
    public var length: Int { ids.shape[1] }

    /// Some of the sequences. [range.count, L]
    public func rows(_ range: Range<Int>) -> TokenBatch {
        TokenBatch(ids: ids.rows(range), mask: mask?.rows(range), types: types?.rows(range))
    }

    /// What each position of a causal model is to predict: the token behind it, or `ignored` where there is none. [B, L]
    public func nextTokens(ignored: Int32 = -100) -> IndexTensor {
        let length = length
        let counts = mask?.elements
        return IndexTensor(
            ids.elements.indices.map { place in
                guard place % length + 1 < length, counts.map({ $0[place + 1] != 0 }) ?? true
                else { return ignored }
                return ids.elements[place + 1]
            }, shape: ids.shape)
    }
}
