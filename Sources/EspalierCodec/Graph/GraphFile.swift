package import EspalierGraph

/// A file that holds a graph: opened by its headers, which are checked as a whole.
package struct GraphFile<Source: ByteSource> {
    /// The file as a container.
    package let reader: ContainerReader<Source>
    private let outline: GraphOutline

    /// Reads the headers of a file.
    ///
    /// - Throws: `ContainerError` where they are damaged, describe no graph, or need a newer program.
    package init(_ source: Source) throws(ContainerError) {
        reader = try ContainerReader(source, knownFields: GraphTags.network)
        outline = try GraphOutline(reader)
    }

    /// What the maker said.
    package var description: [UInt8]? { outline.description }
    /// The program that wrote the file.
    package var producer: String? { outline.producer }
    /// What the graph is fed with.
    package var input: Graph.Input { outline.graph.input }
    /// The nodes, each the layer of the same index; their constants are not read.
    package var nodes: [Graph.Node] { outline.graph.nodes }

    /// The whole graph.
    ///
    /// - Throws: `ContainerError` with the layer whose data are damaged.
    package func graph() throws(ContainerError) -> Graph { try outline.graph(reader) }

    /// The constants that stand in one layer; no other data are read.
    ///
    /// - Throws: `ContainerError` where they are damaged, or there is no such layer.
    package func constants(ofLayer id: UInt32) throws(ContainerError) -> [Graph.Constant] {
        let data = try reader.layer(id)
        var constants: [Graph.Constant] = []
        for constant in outline.constants where constant.layer == id {
            constants.append(try constant.value(in: data))
        }
        return constants
    }
}

/// Where the bytes of a file are.
package struct FileSizes: Sendable, Hashable {
    /// Those of a layer.
    package struct Layer: Sendable, Hashable {
        package let id: UInt32
        package let name: String
        /// Its own header and those of its tensors.
        package let headers: Int
        /// The data of its tensors by what they are to it.
        package let data: [ContainerNetwork.Kind: Int]
        /// Zeros before and between them.
        package let padding: Int
    }

    /// The network header with its fields.
    package let networkHeader: Int
    package let layers: [Layer]
    /// Of the file.
    package let total: Int

    /// Bytes of all tensors of a kind.
    package func data(_ kind: ContainerNetwork.Kind) -> Int {
        layers.reduce(0) { $0 + ($1.data[kind] ?? 0) }
    }

    /// Bytes of all headers.
    package var headers: Int { layers.reduce(networkHeader) { $0 + $1.headers } }
    /// What is neither a header nor data of a tensor.
    package var padding: Int {
        total - headers - ContainerNetwork.Kind.allCases.reduce(0) { $0 + data($1) }
    }
}

extension ContainerReader {
    /// Where the bytes of the file are.
    package var sizes: FileSizes {
        FileSizes(
            networkHeader: headerBytes,
            layers: layers.map { layer in
                var data: [ContainerNetwork.Kind: Int] = [:]
                for (tensor, place) in zip(layer.header.subLayers, layer.places) {
                    data[tensor.kind, default: 0] += place.count
                }
                return FileSizes.Layer(
                    id: layer.header.id, name: layer.header.name, headers: layer.headerPlace.count,
                    data: data, padding: layer.extent.count - data.values.reduce(0, +))
            }, total: fileBytes)
    }
}
