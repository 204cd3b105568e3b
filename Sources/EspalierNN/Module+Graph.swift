import EspalierEngine
package import EspalierGraph
package import EspalierTensors

extension Layer {
    /// The layer in evaluation mode as a graph over examples of a shape, as recorded.
    ///
    /// - Throws: `GraphError` where its forward depends on more than its parameters and each example.
    package func recordedGraph(example: Shape) throws(GraphError) -> Graph {
        let entries = ParameterSet(self).entries
        // A parameter met under two names goes by the first.
        let names = Dictionary(entries.map { (ObjectIdentifier($0.parameter), $0.name) }) {
            first, _ in first
        }
        return try Graph.recorded(example: example, names: names) { self($0) }
    }
}

extension Network {
    /// The network as it ships: recorded in evaluation mode, with masks, norms and grids folded into its layers.
    ///
    /// - Throws: `GraphError` where it cannot be exported, such as with grids that have seen no data.
    package func graph() throws(GraphError) -> Graph {
        for (name, step) in body {
            guard case .layer(let layer) = step, let site = layer as? QuantizationSite,
                site.parameters == nil
            else { continue }
            throw GraphError("'\(name)' has seen no data: calibrate the network before it is used")
        }
        return try recordedGraph(example: input).folded()
    }
}
