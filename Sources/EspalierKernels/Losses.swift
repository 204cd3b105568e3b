import CEspalierKernels
package import EspalierTensors

// Cross-entropy of rows of logits, in one pass over memory each way.
extension Kernels {
    /// What rows of logits are held against.
    package struct CrossEntropyTargets {
        /// A class for each row, -1 where it does not count; or nil.
        let classes: [Int32]?
        /// A distribution for each row; or nil.
        let probabilities: Tensor?
        let weights: Tensor?
        let smoothing: Float

        package init(
            classes: [Int32]?, probabilities: Tensor?, weights: Tensor?, smoothing: Float
        ) {
            self.classes = classes
            self.probabilities = probabilities
            self.weights = weights
            self.smoothing = smoothing
        }

        fileprivate func reading(
            _ body: (esp_cross_entropy, UnsafePointer<Int32>?, UnsafePointer<Float>?) -> Void
        ) {
            unsafe Kernels.readingAny(weights) { weights in
                unsafe Kernels.readingAny(probabilities) { probabilities in
                    let rule = unsafe esp_cross_entropy(weights: weights, smoothing: smoothing)
                    if let classes {
                        unsafe classes.withUnsafeBufferPointer {
                            unsafe body(rule, $0.baseAddress, probabilities)
                        }
                    } else {
                        unsafe body(rule, nil, probabilities)
                    }
                }
            }
        }
    }

    /// Of each row the loss, the sum of its shares and what its softmax is computed from again. [rows, C] -> [rows],
    /// [rows], [rows, 2]
    package static func crossEntropy(
        _ logits: Tensor, _ targets: CrossEntropyTargets
    ) -> (losses: Tensor, weights: Tensor, sums: Tensor) {
        let (rows, columns) = rowsAndColumns(logits.shape)
        var (losses, weights) = (Tensor.zeros([rows]), Tensor.zeros([rows]))
        let sums = unsafe Tensor([rows, 2]) { sums in
            unsafe losses.writing { losses in
                unsafe weights.writing { weights in
                    unsafe logits.reading { x in
                        unsafe targets.reading { rule, classes, probabilities in
                            forEachBlock(rows, grain: rowGrain(columns)) { row, n in
                                var rule = unsafe rule
                                unsafe c.f32_cross_entropy(
                                    &rule, x + row * columns, classes.map { unsafe $0 + row },
                                    probabilities.map { unsafe $0 + row * columns }, losses + row,
                                    weights + row, sums + 2 * row, n, columns)
                            }
                        }
                    }
                }
            }
        }
        return (losses, weights, sums)
    }

    /// The gradient for the logits: of each row, its factor times (weight softmax - shares).
    package static func crossEntropyGradient(
        _ logits: Tensor, _ targets: CrossEntropyTargets, weights: Tensor, sums: Tensor,
        factors: Tensor
    ) -> Tensor {
        let (rows, columns) = rowsAndColumns(logits.shape)
        return unsafe Tensor(logits.shape) { dx in
            unsafe reading(weights, sums, factors) { weights, sums, factors in
                unsafe logits.reading { x in
                    unsafe targets.reading { rule, classes, probabilities in
                        forEachBlock(rows, grain: rowGrain(columns)) { row, n in
                            var rule = unsafe rule
                            unsafe c.f32_cross_entropy_gradient(
                                &rule, x + row * columns, classes.map { unsafe $0 + row },
                                probabilities.map { unsafe $0 + row * columns }, weights + row,
                                sums + 2 * row, factors + row, dx + row * columns, n, columns)
                        }
                    }
                }
            }
        }
    }
}
