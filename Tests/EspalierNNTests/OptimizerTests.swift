import EspalierEngine
import EspalierNN
import EspalierTensors
import EspalierTesting
import Testing

@Suite struct ScheduleTests {
    @Test func shapesAfterWarmup() {
        for shape in [Schedule.Shape.constant, .cosine, .linear] {
            let schedule = Schedule(shape, warmup: 4, total: 20)
            #expect((0..<4).map { schedule.factor(at: $0) } == [0, 0.25, 0.5, 0.75])
            #expect(schedule.factor(at: 4) == 1)
            let factors = (4...25).map { schedule.factor(at: $0) }
            #expect(factors.allSatisfy { $0 >= 0 && $0 <= 1 })
            #expect(zip(factors, factors.dropFirst()).allSatisfy { $0 >= $1 } || shape == .cosine)
        }
        #expect(Schedule(.constant, total: 20).factor(at: 19) == 1)
        #expect(abs(Schedule(.cosine, warmup: 4, total: 20).factor(at: 12) - 0.5) < 1e-12)
        #expect(abs(Schedule(.cosine, warmup: 4, total: 20).factor(at: 20)) < 1e-12)
        #expect(abs(Schedule(.linear, warmup: 4, total: 20).factor(at: 8) - 0.75) < 1e-12)
        #expect(Schedule(.linear, total: 20).factor(at: 30) == 0)
    }

    @Test func rewindingRunsToTheEndAgain() {
        for shape in [Schedule.Shape.cosine, .linear] {
            let plain = Schedule(shape, warmup: 2, total: 20)
            let rewound = Schedule(shape, warmup: 2, total: 20, rewind: .init(from: 10, to: 4))
            for step in 0..<10 { #expect(rewound.factor(at: step) == plain.factor(at: step)) }
            #expect(rewound.factor(at: 10) == plain.factor(at: 4))
            #expect(abs(rewound.factor(at: 15) - plain.factor(at: 12)) < 1e-12)
            #expect(abs(rewound.factor(at: 20)) < 1e-12)
        }
    }
}

extension ScheduleTests {
    /// After warm-up the other shapes run as if they began there, and rewinding takes them back.
    @Test func otherShapes() {
        let shapes: [Schedule.Shape] = [
            .cosineAnnealing(end: 0.1), .cosineRestarts(cycles: 2), .polynomial(power: 2, end: 0.1),
            .exponential(factor: 0.9), .step(every: 3, factor: 0.5),
            .milestones([2, 5], factor: 0.1), .oneCycle(Schedule.OneCycle()),
        ]
        for shape in shapes {
            let plain = Schedule(shape, total: 16)
            let late = Schedule(shape, warmup: 4, total: 20)
            #expect((0..<4).map { late.factor(at: $0) } == [0, 0.25, 0.5, 0.75])
            for step in 0..<16 { #expect(late.factor(at: step + 4) == plain.factor(at: step)) }
            let rewound = Schedule(shape, total: 16, rewind: .init(from: 8, to: 4))
            #expect(rewound.factor(at: 8) == plain.factor(at: 4))
            for total in 1...3 {
                let short = Schedule(shape, total: total)
                for step in 0...4 { #expect((0...1).contains(short.factor(at: step))) }
            }
        }
        let step = Schedule(.step(every: 3, factor: 0.5), total: 9)
        #expect((0..<7).map { step.factor(at: $0) } == [1, 1, 1, 0.5, 0.5, 0.5, 0.25])
        let milestones = Schedule(.milestones([2, 4], factor: 0.5), total: 9)
        #expect((0..<5).map { milestones.factor(at: $0) } == [1, 1, 0.5, 0.5, 0.25])
        let restarts = Schedule(.cosineRestarts(cycles: 2), total: 8)
        #expect(restarts.factor(at: 4) == 1)
        #expect(restarts.factor(at: 8) == 0)
        let cycle = Schedule(.oneCycle(Schedule.OneCycle(rise: 0.5)), total: 20)
        #expect(abs(cycle.factor(at: 0) - 0.04) < 1e-12)
        #expect(abs(cycle.factor(at: 9) - 1) < 1e-12)
        #expect(abs(cycle.factor(at: 19) - 4e-6) < 1e-12)
        for (at, momentum) in [(0, 0.95), (9, 0.85), (19, 0.95)] {
            #expect(cycle.momentum(at: at).map { abs($0 - momentum) < 1e-12 } ?? false)
        }
        #expect(step.momentum(at: 0) == nil)
    }
}

@Suite struct ClippingTests {
    private let parameters = [
        Parameter(.zeros([2])), Parameter(.zeros([3])), Parameter(.zeros([1])),
    ]
    private var set: ParameterSet {
        ParameterSet(parameters.enumerated().map { ("p\($0.offset)", $0.element) })
    }

    /// The last parameter has no gradient.
    private func gradients(_ a: [Float], _ b: [Float]) -> Gradients {
        var gradients = Gradients()
        gradients[parameters[0]] = Tensor(a, shape: [2])
        gradients[parameters[1]] = Tensor(b, shape: [3])
        return gradients
    }

    private func elements(_ gradients: Gradients) -> [Float] {
        parameters.flatMap { gradients[$0]?.elements ?? [] }
    }

    @Test func limits() {
        var long = gradients([3, 0], [0, -4, 0])
        #expect(GradientClipping.norm(1).apply(to: &long, of: set) == 5)
        #expect(zip(elements(long), [0.6, 0, 0, -0.8, 0]).allSatisfy { abs($0 - $1) < 1e-6 })
        var short = gradients([3, 0], [0, -4, 0])
        #expect(GradientClipping.norm(5.5).apply(to: &short, of: set) == 5)
        #expect(elements(short) == [3, 0, 0, -4, 0])
        var largest = gradients([3, 0], [0, -4, 0])
        #expect(GradientClipping.largest(2).apply(to: &largest, of: set) == 4)
        #expect(zip(elements(largest), [1.5, 0, 0, -2, 0]).allSatisfy { abs($0 - $1) < 1e-6 })
        var sum = gradients([3, 0], [0, -4, 0])
        #expect(abs(GradientClipping.powerNorm(3.5, degree: 1).apply(to: &sum, of: set) - 7) < 1e-5)
        #expect(zip(elements(sum), [1.5, 0, 0, -2, 0]).allSatisfy { abs($0 - $1) < 1e-6 })
        var value = gradients([3, 1], [0, -4, -0.5])
        #expect(GradientClipping.value(2).apply(to: &value, of: set) == 4)
        #expect(elements(value) == [2, 1, 0, -2, -0.5])
        #expect(value[parameters[2]] == nil)
    }

    /// A gradient that is NaN shows in the norm, and spreads as it does in PyTorch.
    @Test(arguments: [0, 1]) func notANumber(_ place: Int) {
        let (a, b): ([Float], [Float]) =
            place == 0 ? ([.nan, 1], [1, 1, 1]) : ([1, 1], [1, 1, .nan])
        for clipping in [GradientClipping.norm(1), .largest(1), .powerNorm(1, degree: 3)] {
            var some = gradients(a, b)
            #expect(clipping.apply(to: &some, of: set).isNaN)
            #expect(elements(some).allSatisfy { $0.isNaN })
        }
        var some = gradients(a, b)
        #expect(GradientClipping.value(0.5).apply(to: &some, of: set).isNaN)
        #expect(elements(some).count { $0.isNaN } == 1)
        #expect(elements(some).count { $0 == 0.5 } == 4)
    }

    @Test func infinity() {
        var some = gradients([.infinity, 1], [1, 1, 1])
        #expect(GradientClipping.norm(1).apply(to: &some, of: set) == .infinity)
        #expect(elements(some)[0].isNaN)
        #expect(elements(some).dropFirst().allSatisfy { $0 == 0 })
    }
}

private let rules: [any Optimizer] = [
    AdamW(), SGD(momentum: 0.9, weightDecay: 0.1), Adam(weightDecay: 0.1, keepsLargest: true),
    AdaGrad(weightDecay: 0.1, initialSum: 0.5),
    RMSProp(weightDecay: 0.1, momentum: 0.9, isCentred: true),
]

private func stateCount(_ rule: any Optimizer) -> Int {
    switch rule {
    case is AdamW: 2
    case is Adam, is RMSProp: 3
    default: 1
    }
}

@Suite struct OptimizerTests {
    /// What a schedule of momentum sets is what the next step uses.
    @Test func momentumCanChange() {
        for rule in rules where !(rule is AdaGrad) {
            func run(_ second: Float) -> [Float] {
                var optimizer = rule
                let parameter = Parameter(Fixtures.normal([5], seed: 1))
                let set = ParameterSet([("p", parameter)])
                for (step, momentum) in [0.9, second].enumerated() {
                    var gradients = Gradients()
                    gradients[parameter] = Fixtures.normal([5], seed: UInt64(2 + step))
                    optimizer.momentum = momentum
                    #expect(optimizer.momentum == momentum)
                    optimizer.update(set, with: gradients, rate: 0.1)
                }
                return parameter.value.elements
            }
            #expect(run(0.9) != run(0.5))
        }
    }

    @Test func frozenParametersAndThoseWithoutGradientStay() {
        for rule in rules {
            var optimizer = rule
            let parameters = (0..<3).map { _ in Parameter(Tensor(repeating: 1, shape: [4])) }
            parameters[1].isTrainable = false
            var gradients = Gradients()
            gradients[parameters[0]] = Tensor(repeating: 1, shape: [4])
            gradients[parameters[1]] = Tensor(repeating: 1, shape: [4])
            let set = ParameterSet(parameters.enumerated().map { ("p\($0.offset)", $0.element) })
            optimizer.update(set, with: gradients, rate: 0.1)
            #expect(parameters[0].value.elements.allSatisfy { $0 < 1 })
            #expect(parameters[1].value.elements == [1, 1, 1, 1])
            #expect(parameters[2].value.elements == [1, 1, 1, 1])
            #expect(optimizer.state.step == 1)
            #expect(optimizer.state.slots.values.allSatisfy { Set($0.keys) == ["p0"] })
        }
    }

    @Test func optionsBelongToOneParameter() {
        let options = ["b": ParameterOptions(rateFactor: 0.5, weightDecay: 0)]
        var optimizer = SGD(weightDecay: 0.1, options: options)
        let (a, b) = (
            Parameter(Tensor(repeating: 1, shape: [1])), Parameter(Tensor(repeating: 1, shape: [1]))
        )
        var gradients = Gradients()
        for parameter in [a, b] { gradients[parameter] = Tensor(repeating: 1, shape: [1]) }
        optimizer.update(ParameterSet([("a", a), ("b", b)]), with: gradients, rate: 0.1)
        #expect(abs(a.value.elements[0] - 0.89) < 1e-6)
        #expect(abs(b.value.elements[0] - 0.95) < 1e-6)
    }

    /// Weights and state become exactly +0 where a mask arrives late, even along gradients without
    /// it.
    @Test func stateIsMaskedAsTheWeightIs() {
        let mask = Mask(shape: [37]) { $0 % 3 != 0 }
        for rule in rules {
            var optimizer = rule
            let parameter = Parameter(Fixtures.normal([37], seed: 1))
            let set = ParameterSet([("p", parameter)])
            var gradients = Gradients()
            gradients[parameter] = Fixtures.normal([37], seed: 2)
            optimizer.update(set, with: gradients, rate: 0.1)
            parameter.setMask(mask)
            for step in 0..<3 {
                gradients[parameter] = Fixtures.normal([37], seed: UInt64(3 + step))
                optimizer.update(set, with: gradients, rate: 0.1)
                let state = optimizer.state.slots.values.compactMap { $0["p"] }
                #expect(state.count == stateCount(rule))
                for tensor in state + [parameter.value] {
                    for (index, value) in tensor.elements.enumerated() {
                        #expect((value.bitPattern == 0) == !mask.isLive(index))
                    }
                }
            }
        }
    }

    @Test func updatesAllocateNothingInTheSteadyState() {
        for rule in rules where !(rule is RMSProp) {
            var optimizer = rule
            let parameter = Parameter(Tensor(repeating: 1, shape: [1_000]))
            let set = ParameterSet([("p", parameter)])
            var gradients = Gradients()
            gradients[parameter] = Fixtures.normal([1_000], seed: 1)
            func addresses() -> [UInt] {
                let tensors =
                    [parameter.value]
                    + optimizer.state.slots.sorted { $0.key < $1.key }.compactMap { $0.value["p"] }
                return tensors.map { unsafe $0.reading { UInt(bitPattern: $0) } }
            }
            optimizer.update(set, with: gradients, rate: 0.1)
            let before = addresses()
            for _ in 0..<5 { optimizer.update(set, with: gradients, rate: 0.1) }
            #expect(addresses() == before)
        }
    }
}
