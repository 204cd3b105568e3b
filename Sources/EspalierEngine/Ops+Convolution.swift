import CEspalierKernels
import EspalierGraph
import EspalierKernels
import EspalierTensors

extension Op.Conv2D: Differentiable {
    // Output pixels are cut into tiles; each tile's input columns are gathered into a scratch that stays in the
    // cache and meet the weights in one product. The column matrix never exists as a whole.
    func forward(_ inputs: [Tensor], _ context: inout ForwardContext) -> Tensor {
        let (x, weight) = (inputs[0], inputs[1])
        let plan = ConvolutionPlan(self, x: x.shape, weight: weight.shape)
        let bias = inputs.count > 2 ? inputs[2] : nil
        context.keep(x, weight)
        return unsafe Tensor(plan.outputShape) { y in
            unsafe reading(x, weight) { x, weight in
                let tiles = plan.tilesPerImage
                ThreadPool.shared.forEachChunk(plan.images * tiles) { chunk in
                    let pixels = plan.tile(chunk % tiles)
                    unsafe plan.forwardTile(
                        image: chunk / tiles, pixels: pixels, x: x, weight: weight, y: y)
                    let rows = unsafe y + plan.outputOffset(chunk / tiles, pixels.lowerBound)
                    unsafe bias?.reading {
                        unsafe Kernels.addRow(
                            $0, to: rows, rows: pixels.count, columns: plan.outputs)
                    }
                }
            }
        }
    }

    // Images are dealt to parts whose number depends on the shape alone. A part owns its images' dX and its own
    // dW; the parts' dW are added in order.
    func gradients(_ upstream: Tensor, _ saved: Saved) -> [Tensor?] {
        let (x, weight) = (saved.tensors[0], saved.tensors[1])
        let plan = ConvolutionPlan(self, x: x.shape, weight: weight.shape)
        let (needsX, needsWeight) = (saved.needed[0], saved.needed[1])
        let parts = min(plan.images, 16)
        var dx = Tensor.zeros(needsX ? x.shape : [0])
        var partials = Tensor.zeros(needsWeight ? [parts, weight.count] : [0])
        unsafe dx.writing { dx in
            unsafe partials.writing { partials in
                unsafe reading(x, weight, upstream) { x, weight, dy in
                    ThreadPool.shared.forEachChunk(parts) { part in
                        let first = plan.images * part / parts
                        let end = plan.images * (part + 1) / parts
                        for image in first..<end {
                            unsafe plan.backward(
                                image: image, x: x, weight: weight, dy: dy,
                                dx: needsX ? dx : nil,
                                dw: needsWeight ? partials + part * plan.weightCount : nil)
                        }
                    }
                }
            }
        }
        var result: [Tensor?] = [needsX ? dx : nil, nil]
        if needsWeight {
            result[1] = Kernels.columnSums(partials).reshaped(to: weight.shape)
        }
        if saved.needed.count > 2 {
            result.append(saved.needed[2] ? Kernels.columnSums(upstream) : nil)
        }
        return result
    }
}
