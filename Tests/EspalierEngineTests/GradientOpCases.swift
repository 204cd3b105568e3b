import EspalierEngine
import EspalierGraph
import EspalierTensors

// The finite differences of the op families, every kind of each.

private func shifted(_ x: Tensor, by distance: Float) -> Tensor {
    Tensor(x.elements.map { $0 + distance }, shape: x.shape)
}

private func positive(_ shape: Shape) -> Tensor {
    let x = distinct(shape)
    return Tensor(x.elements.map { abs($0) + 0.4 }, shape: shape)
}

func functionChecks() -> [GradientCase] {
    let functions =
        Op.Unary.Function.all + [
            .power(3), .power(-1.5), .softplus(beta: 2.5), .elu(alpha: 0.7),
            .clamp(-.infinity, 0.5),
        ]
    return functions.map { function in
        let x: Tensor =
            switch function {
            case .log, .log1p, .sqrt, .rsqrt, .reciprocal, .power: positive([3, 7])
            // Past its kinks at -3 and 3.
            case .hardSwish:
                Tensor(distinct([3, 26]).elements.map { $0 * 1.01 }, shape: [3, 26])
            default: distinct([3, 7])
            }
        return GradientCase(name: "\(function)", inputs: [x]) { $0[0].applying(function) }
    }
}

func binaryChecks() -> [GradientCase] {
    let shapes: [(Shape, Shape)] = [
        ([3, 4], [3, 4]), ([3, 4], [4]), ([4], [3, 4]), ([3, 1, 2], [5, 1]), ([], [2, 3]),
        ([2, 3], [2, 1]),
    ]
    return Op.Binary.Function.all.flatMap { function in
        shapes.map { a, b in
            let inputs: [Tensor] =
                switch function {
                case .divide, .power: [positive(a), positive(b)]
                // No ties.
                case .maximum, .minimum: [distinct(a), shifted(distinct(b), by: 0.05)]
                case .subtract, .multiply: [normal(a), normal(b, 2)]
                }
            return GradientCase(name: "\(function) \(a), \(b)", inputs: inputs) {
                .combining(function, $0[0], $0[1])
            }
        }
    }
}

func selectChecks() -> [GradientCase] {
    let condition = Tensor([1, 0, 0, 1, 1, 0], shape: [3, 1, 2])
    return [
        GradientCase(name: "select", inputs: [normal([4, 2]), normal([1], 2)]) {
            .select($0[0].tape.input(condition), $0[0], $0[1])
        }
    ]
}

func fillChecks() -> [GradientCase] {
    let mask = Tensor([1, 0, 0, 1], shape: [4])
    return [
        GradientCase(name: "fill", inputs: [normal([3, 4])]) {
            $0[0].filled(with: -2, where: $0[0].tape.input(mask))
        }
    ]
}

func reduceChecks() -> [GradientCase] {
    let axes: [[Int]?] = [nil, [0], [-1], [1], [0, 2], [1, 2]]
    return Op.Reduce.Kind.allCases.flatMap { kind in
        axes.enumerated().map { index, axes in
            GradientCase(name: "\(kind) along \(axes ?? [])", inputs: [distinct([3, 4, 2])]) {
                $0[0].reduced(
                    kind, axes: axes, keepsAxes: index % 2 == 0, correction: Float(index % 2))
            }
        }
    }
}

func cumulativeSumChecks() -> [GradientCase] {
    (-1...2).map { axis in
        GradientCase(name: "cumulative sum along \(axis)", inputs: [normal([3, 4, 2])]) {
            $0[0].cumulativeSum(axis: axis)
        }
    }
}

func shapeChecks() -> [GradientCase] {
    let cases: [(String, @Sendable (Value) -> Value)] = [
        ("permute", { $0.permuted([2, 0, 1]) }),
        ("transpose", { $0.transposed(1, -1) }),
    ]
    return cases.map { name, body in
        GradientCase(name: name, inputs: [normal([3, 4, 5])]) { body($0[0]) }
    }
}

func sliceChecks() -> [GradientCase] {
    let cases: [(String, [Op.Slice.Part])] = [
        ("one axis", [.init(axis: 1, start: 1, end: 3)]),
        ("steps", [.init(axis: 0, start: 1, step: 2), .init(axis: -1, end: -1, step: 3)]),
        ("backwards", [.init(axis: 1, start: -2, step: -2), .init(axis: 0, step: -1)]),
        ("beyond the ends", [.init(axis: 2, start: -9, end: 99)]),
    ]
    return cases.map { name, parts in
        GradientCase(name: "slice \(name)", inputs: [normal([3, 4, 5])]) { $0[0].sliced(parts) }
    }
}

func concatenateChecks() -> [GradientCase] {
    (0...2).map { axis in
        let shapes = [1, 3, 2].map { extent in
            var shape: Shape = [2, 3, 2]
            shape[axis] = extent
            return shape
        }
        return GradientCase(
            name: "concatenate along \(axis)",
            inputs: shapes.enumerated().map { normal($1, UInt64($0 + 1)) }
        ) { .concatenated($0, axis: axis) }
    } + [
        GradientCase(name: "tile", inputs: [normal([2, 3])]) { $0[0].tiled([2, 1, 3]) },
        GradientCase(name: "stack", inputs: [normal([2, 3]), normal([2, 3], 2)]) {
            .stacked($0, axis: -1)
        },
    ]
}

func padChecks() -> [GradientCase] {
    let modes: [(Op.Pad.Mode, [Int], [Int])] = [
        (.constant(0.5), [0, 1, 2], [1, 0, 3]), (.constant(0), [0, -1, 1], [-1, 2, -4]),
        (.constant(0), [0, -5, 0], [0, 6, 0]), (.reflect, [1, 0, 3], [0, 3, 2]),
        (.replicate, [0, 2, 5], [3, 0, 1]),
    ]
    return modes.map { mode, before, after in
        GradientCase(name: "pad \(mode) \(before) \(after)", inputs: [normal([2, 4, 5])]) {
            $0[0].padded(mode, before: before, after: after)
        }
    }
}

func expandChecks() -> [GradientCase] {
    [
        GradientCase(name: "expand", inputs: [normal([3, 1])]) { $0[0].expanded(to: [2, -1, 4]) },
        GradientCase(name: "expand the first axis", inputs: [normal([1, 3])]) {
            $0[0].expanded(to: [4, -1])
        },
    ]
}

func triangleChecks() -> [GradientCase] {
    [-5, -1, 0, 2, 9].flatMap { diagonal in
        [
            GradientCase(name: "lower triangle \(diagonal)", inputs: [normal([2, 3, 4])]) {
                $0[0].lowerTriangle(diagonal: diagonal)
            },
            GradientCase(name: "upper triangle \(diagonal)", inputs: [normal([2, 3, 4])]) {
                $0[0].upperTriangle(diagonal: diagonal)
            },
        ]
    }
}

func gatherChecks() -> [GradientCase] {
    let indices = IndexTensor([2, 0, 2, 1, 1, 0, 0, 2], shape: [2, 2, 2])
    return [
        GradientCase(name: "gather", inputs: [normal([2, 3, 2])]) {
            $0[0].gathered(axis: 1, indices)
        }
    ]
}

func takeChecks() -> [GradientCase] {
    let indices = IndexTensor([2, 0, 2, 2, 1, 0], shape: [3, 2])
    return (0...2).map { axis in
        GradientCase(name: "take along \(axis)", inputs: [normal([3, 3, 3])]) {
            $0[0].taken(axis: axis, indices)
        }
    }
}

func scatterAddChecks() -> [GradientCase] {
    let indices = IndexTensor([2, 0, 2, 1, 1, 0, 0, 2], shape: [2, 2, 2])
    return [
        GradientCase(name: "scatter", inputs: [normal([2, 3, 2]), normal([2, 2, 2], 2)]) {
            $0[0].adding($0[1], axis: 1, at: indices)
        }
    ]
}

func matMulChecks() -> [GradientCase] {
    let batches: [(Shape, Shape)] = [
        ([], []), ([2], [2]), ([2], []), ([], [3]), ([2, 1], [3]), ([2, 1], [1, 3]),
    ]
    let matrices = batches.flatMap { first, second in
        [(false, false), (true, false), (false, true), (true, true)].map { ta, tb in
            let a = Shape(first + (ta ? [4, 3] : [3, 4]))
            let b = Shape(second + (tb ? [2, 4] : [4, 2]))
            return GradientCase(
                name: "matmul \(a)\(ta ? "T" : "") \(b)\(tb ? "T" : "")",
                inputs: [normal(a), normal(b, 2)]
            ) { $0[0].matMul($0[1], transposed: ta, otherTransposed: tb) }
        }
    }
    let vectors: [(Shape, Shape)] = [([4], [4]), ([3, 4], [4]), ([4], [2, 4, 3])]
    return matrices
        + vectors.map { a, b in
            GradientCase(name: "matmul \(a) \(b)", inputs: [normal(a), normal(b, 2)]) {
                $0[0].matMul($0[1])
            }
        }
}

func layerNormChecks() -> [GradientCase] {
    let plain = [true, false].flatMap { isCentred in
        [1, 2].flatMap { axes in
            [0, 1, 2].filter { isCentred || $0 < 2 }.map { operands in
                let shape: Shape = axes == 1 ? [4] : [3, 4]
                let extra = (0..<operands).map { normal(shape, UInt64($0 + 2)) }
                return GradientCase(
                    name: "layer norm over \(axes), centred \(isCentred), \(operands) operands",
                    inputs: [normal([2, 3, 4])] + extra
                ) {
                    isCentred
                        ? $0[0].layerNorm(
                            weight: operands > 0 ? $0[1] : nil, bias: operands > 1 ? $0[2] : nil,
                            axisCount: axes, epsilon: 1e-3)
                        : $0[0].rmsNorm(
                            weight: operands > 0 ? $0[1] : nil, axisCount: axes, epsilon: 1e-3)
                }
            }
        }
    }
    return plain + [
        GradientCase(
            name: "group norm", inputs: [normal([2, 3, 6]), normal([6], 2), normal([6], 3)]
        ) { $0[0].groupNorm(groups: 3, weight: $0[1], bias: $0[2], epsilon: 1e-3) }
    ]
}
