import CEspalierKernels
package import EspalierGraph
import EspalierKernels
package import EspalierTensors

/// What max pooling keeps for its gradient, for tests that compare it with other programs.
package enum MaxPoolProbe {
    /// The pixel number, row * width + column, of each window's first largest. [N, H, W, C] -> [N, OH, OW, C]
    package static func indices(of x: Tensor, _ window: Window2D) -> Tensor {
        let bits = Kernels.maxPool(x, esp_window(window, image: x.shape)).indices
        return Tensor(
            bits.elements.map { Float(Int32(bitPattern: $0.bitPattern)) }, shape: bits.shape)
    }
}
