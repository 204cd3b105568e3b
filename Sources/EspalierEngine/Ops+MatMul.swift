import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.MatMul: Differentiable {
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        context.keep(inputs[0], inputs[1])
        return Products.batched(
            inputs[0], transposesA, inputs[1], transposesB, context.precision)
    }

    // With C = A B: dA = dC Bᵀ and dB = Aᵀ dC; an operand that is read transposed gets the transpose of its gradient,
    // which is the product the other way round. What was broadcast gets the sum.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (a, b) = (saved.tensors[0], saved.tensors[1])
        var result: [Tensor?] = [nil, nil]
        func product(_ a: Tensor, _ transposesA: Bool, _ b: Tensor, _ transposesB: Bool) -> Tensor {
            Products.batched(a, transposesA, b, transposesB, saved.precision)
        }
        if saved.needed[0] {
            let da =
                transposesA
                ? product(b, transposesB, upstream, true)
                : product(upstream, false, b, !transposesB)
            result[0] = Kernels.sum(da, to: a.shape)
        }
        if saved.needed[1] {
            if b.shape.rank == 2, a.shape.rank > 2, !transposesA {
                // One matrix for the whole batch: the sum over it is part of the product.
                let rows = upstream.shape.dropLast().reduce(1, *)
                func flat(_ x: Tensor) -> Tensor {
                    x.reshaped(to: [rows, x.shape[x.shape.rank - 1]])
                }
                result[1] =
                    transposesB
                    ? product(flat(upstream), true, flat(a), false)
                    : product(flat(a), true, flat(upstream), false)
            } else {
                let db =
                    transposesB
                    ? product(upstream, true, a, transposesA)
                    : product(a, !transposesA, upstream, false)
                result[1] = Kernels.sum(db, to: b.shape)
            }
        }
        return result
    }
}
