import EspalierTensors
import Synchronization

extension CostTable {
    private static let chosen = Mutex<CostTable?>(nil)

    /// The table that plans are made by: that which ships for the ISA in use, unless another was set.
    package static var current: CostTable {
        get { chosen.withLock { $0 } ?? .shipped(.current) }
        set { chosen.withLock { $0 = newValue } }
    }
}
