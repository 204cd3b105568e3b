package import EspalierEngine
package import EspalierTensors

/// Compares a gradient with central finite differences.
package enum GradientCheck {
    /// The largest error of the gradients of `body` at `inputs`, relative to the largest entry of each
    /// gradient, or to 0.05 where all are smaller.
    ///
    /// The result is projected on a fixed random direction and the loss summed in double precision; each entry of each
    /// input is moved by ±step. Float arithmetic leaves about 1e-3 for a step of 1e-2.
    package static func worstError(
        of body: ([Value]) -> Value, at inputs: [Tensor], step: Float = 1e-2,
        mode: Mode = .training
    ) -> (error: Double, place: String) {
        let random = RandomStream(seed: 99)
        func forward(_ tensors: [Tensor]) -> (Tape, [Value], Value) {
            // The same stream each time: dropout drops the same elements.
            let tape = Tape(mode: mode, random: RandomStream(seed: 5))
            let values = tensors.map { tape.variable($0) }
            return (tape, values, body(values))
        }
        let (tape, values, result) = forward(inputs)
        let direction = Tensor(
            random.uniform(result.tensor.count).map { $0 + 0.5 }, shape: result.shape)
        func loss(_ tensors: [Tensor]) -> Double {
            let output = forward(tensors).2.tensor
            return zip(output.elements, direction.elements).reduce(0) {
                $0 + Double($1.0) * Double($1.1)
            }
        }
        let gradients = tape.gradients(of: result, upstream: direction, for: values).values
        var worst = (error: 0.0, place: "")
        for (index, gradient) in gradients.enumerated() {
            let size = max(gradient.elements.map { abs(Double($0)) }.max() ?? 0, 0.05)
            for element in 0..<inputs[index].count {
                func moved(by delta: Float) -> Double {
                    var changed = inputs
                    var elements = inputs[index].elements
                    elements[element] += delta
                    changed[index] = Tensor(elements, shape: inputs[index].shape)
                    return loss(changed)
                }
                let numeric = (moved(by: step) - moved(by: -step)) / (2 * Double(step))
                let error = abs(numeric - Double(gradient.elements[element])) / size
                if !(error <= worst.error) {
                    worst = (
                        error,
                        "input \(index), element \(element): gradient "
                            + "\(gradient.elements[element]), difference quotient \(numeric)"
                    )
                }
            }
        }
        return worst
    }
}
