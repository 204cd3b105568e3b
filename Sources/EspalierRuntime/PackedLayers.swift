import EspalierKernels
import Synchronization

/// Weights as kernels want them, each made once for all plans of a model.
final class PackedLayers: Sendable {
    /// What a layer's weights are packed for.
    enum Form: Sendable, Hashable {
        case float, dense
        case sparse(SparseInt8.Block)
    }

    struct Key: Sendable, Hashable {
        let node: Int
        let form: Form
    }

    enum Layer: Sendable {
        case float(DenseFloat)
        case dense(DenseInt8)
        case sparse(SparseInt8)
    }

    private let layers = Mutex<[Key: Layer]>([:])

    /// A node's layer, packed where it is met first.
    func layer(_ key: Key, _ make: () -> Layer) -> Layer {
        layers.withLock { layers in
            if let layer = layers[key] { return layer }
            let layer = make()
            layers[key] = layer
            return layer
        }
    }
}
