import EspalierGraph
import EspalierTensors

extension Tape {
    /// Floating-point operations of products, one multiply-add counted as two.
    package struct Work: Sendable, Hashable {
        /// As if all weights lived.
        package var dense = 0
        /// With the weights that do.
        package var live = 0

        package init(dense: Int = 0, live: Int = 0) {
            self.dense = dense
            self.live = live
        }
    }

    /// The work of the products that were recorded: the forward, and the gradients that will be asked for.
    package var work: Work {
        var work = Work()
        for (index, node) in nodes.enumerated() {
            guard let op = node.op else { continue }
            let flops = op.flops(node.inputs.map { shapes[$0] }, result: shapes[index])
            guard flops > 0 else { continue }
            let products = 1 + (node.saved?.needed.prefix(2).count { $0 } ?? 0)
            work.dense += products * flops
            let density = node.inputs.prefix(2).reduce(1) { $0 * liveShare($1) }
            work.live += products * Int((Double(flops) * density).rounded())
        }
        return work
    }

    /// The share of a recorded weight's entries that live.
    private func liveShare(_ node: Int) -> Double {
        var node = node
        while case .fakeQuantize? = nodes[node].op { node = nodes[node].inputs[0] }
        if case .live(let entries) = layouts[node] {
            return Double(entries.count) / Double(max(entries.shape.elementCount, 1))
        }
        guard case .mask(let op)? = nodes[node].op else { return 1 }
        return 1 - op.mask.sparsity
    }
}
