import EspalierTensors

extension Network {
    /// The same function in evaluation mode without norms: each is folded into the convolution before it.
    ///
    /// Masks, their locks and what is frozen are kept; what is not folded is copied. A convolution's bias is frozen where
    /// the norm's was.
    ///
    /// - Throws: `ArchitectureError` where the network has no norms to fold.
    public func folded() throws(ArchitectureError) -> Network {
        guard case .convnet(let channels, let hidden, let dropout, false) = architecture else {
            throw ArchitectureError("the network has no norms to fold")
        }
        let result = try Network(
            .convnet(channels: channels, hidden: hidden, dropout: dropout, isFolded: true),
            input: input, classes: classes, random: RandomStream(seed: 0))
        result.take(from: self)
        let (own, target) = (ParameterSet(self), ParameterSet(result))
        for (name, step) in body {
            guard case .layer(let layer) = step, let norm = layer as? BatchNorm else { continue }
            let convolution = "conv" + name.dropFirst("norm".count)
            guard let weight = own[convolution + ".weight"]?.value else { continue }
            let folded = norm.folded(into: weight, bias: nil)
            target[convolution + ".weight"]?.assign(folded.weight)
            target[convolution + ".bias"]?.assign(folded.bias)
            target[convolution + ".bias"]?.isTrainable = norm.bias.isTrainable
        }
        return result
    }

    /// Whether there are norms to fold.
    public var hasNorms: Bool {
        if case .convnet(_, _, _, isFolded: false) = architecture { return true }
        return false
    }

    /// Names that are gone since norms were folded, with the parameter that each lives on in, if any: a norm's shift is
    /// its convolution's bias now. Empty where no norms were folded.
    public var foldedNames: [(before: String, now: String?)] {
        guard case .convnet(let channels, _, _, isFolded: true) = architecture else { return [] }
        return channels.indices.flatMap { index -> [(before: String, now: String?)] in
            let (norm, convolution) = ("norm\(index + 1)", "conv\(index + 1)")
            return [
                (norm + ".weight", nil), (norm + ".bias", convolution + ".bias"),
                (norm + ".running.mean", nil), (norm + ".running.variance", nil),
            ]
        }
    }

    /// Copies parameters of the same name, with masks, locks and whether they are frozen.
    func take(from other: Network) {
        let theirs = ParameterSet(other)
        for entry in ParameterSet(self).entries {
            guard let source = theirs[entry.name] else { continue }
            entry.parameter.assign(source.value)
            if let mask = source.mask { entry.parameter.setMask(mask) }
            if source.isMaskLocked { entry.parameter.lockMask() }
            entry.parameter.isTrainable = source.isTrainable
        }
    }
}
