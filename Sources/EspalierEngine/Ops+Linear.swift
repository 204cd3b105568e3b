import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Linear: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (x, weight) = (inputs[0], inputs[1])
        let (outputs, depth) = (weight.shape[0], weight.shape[1])
        let shape = Shape(x.shape.dropLast() + [outputs])
        let rows = shape.dropLast().reduce(1, *)
        var y = unsafe Tensor(shape) { y in
            unsafe reading(x, weight) { x, weight in
                unsafe BLAS.multiplyTiled(
                    BLAS.Operand(x, pitch: depth),
                    BLAS.Operand(weight, pitch: depth, transposed: true), into: y, pitch: outputs,
                    rows: rows, columns: outputs, depth: depth)
            }
        }
        if inputs.count > 2 { Kernels.addRow(inputs[2], to: &y) }
        context.keep(x, weight)
        return y
    }

    // dX = dY W, dW = dYᵀ X, db = column sums of dY.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let (outputs, depth) = (weight.shape[0], weight.shape[1])
        let rows = upstream.shape.dropLast().reduce(1, *)
        var result = [Tensor?](repeating: nil, count: saved.needed.count)
        if saved.needed[0] {
            result[0] = unsafe Tensor(x.shape) { dx in
                unsafe reading(upstream, weight) { dy, weight in
                    unsafe BLAS.multiplyTiled(
                        BLAS.Operand(dy, pitch: outputs), BLAS.Operand(weight, pitch: depth),
                        into: dx, pitch: depth, rows: rows, columns: depth, depth: outputs)
                }
            }
        }
        if saved.needed[1] {
            result[1] = unsafe Tensor(weight.shape) { dw in
                unsafe reading(upstream, x) { dy, x in
                    unsafe BLAS.multiplyTiled(
                        BLAS.Operand(dy, pitch: outputs, transposed: true),
                        BLAS.Operand(x, pitch: depth), into: dw, pitch: depth, rows: outputs,
                        columns: depth, depth: rows)
                }
            }
        }
        if saved.needed.count > 2, saved.needed[2] { result[2] = Kernels.columnSums(upstream) }
        return result
    }
}
