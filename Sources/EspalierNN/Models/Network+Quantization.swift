import EspalierTensors

extension Network {
    /// The network with codes for weights and activations, to be calibrated and trained further.
    ///
    /// Norms are folded; masks, their locks and what is frozen are kept. The sites have seen nothing yet.
    ///
    /// - Throws: `ArchitectureError` where the network is quantized already, or the schemes are none for it.
    public func quantized(_ quantization: NetworkQuantization) throws(ArchitectureError) -> Network
    {
        guard self.quantization == nil else {
            throw ArchitectureError("the network is quantized already")
        }
        let plain = hasNorms ? try folded() : self
        let result = try Network(
            plain.architecture, input: input, classes: classes, quantization: quantization,
            random: RandomStream(seed: 0))
        result.take(from: plain)
        return result
    }

    /// The places where activations are quantized, in order, with their names; none in a network of floats.
    public var sites: [(name: String, site: QuantizationSite)] {
        body.compactMap { name, step in
            guard case .layer(let layer) = step, let site = layer as? QuantizationSite else {
                return nil
            }
            return (name, site)
        }
    }
}
