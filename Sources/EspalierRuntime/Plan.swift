import CEspalierKernels
import EspalierGraph
import EspalierTensors

/// A graph with a kernel and a place in memory for each node, for columns of up to `capacity` examples.
///
/// A column runs through all steps before the next one begins, so that what a step leaves is still in cache when the next
/// one reads it. Columns do not know of each other: any batch, in any cut, gives the same bits.
package final class Plan: Sendable {
    /// Of examples.
    package let capacity: Int
    /// Bytes of scratch that a column needs.
    package let bytes: Int
    /// What is done, in order.
    package let steps: [any Step]
    /// Where each slot begins.
    let places: [Int]
    /// Bytes of each slot.
    let sizes: [Int]
    /// Bytes from one example to the next in each slot.
    let strides: [Int]
    /// Bytes of each slot beside those of its examples.
    let extra: [Int]
    /// Where the value of each node lies after a step, for those who compare.
    let marks: [Mark]
    let output: Slot
    let outputCount: Int
    let inputCount: Int

    init(
        capacity: Int, bytes: Int, steps: [any Step], places: [Int], sizes: [Int], strides: [Int],
        extra: [Int], marks: [Mark], output: Slot, outputCount: Int, inputCount: Int
    ) {
        (self.capacity, self.bytes, self.steps) = (capacity, bytes, steps)
        (self.places, self.sizes, self.strides, self.marks) = (places, sizes, strides, marks)
        self.extra = extra
        (self.output, self.outputCount, self.inputCount) = (output, outputCount, inputCount)
    }

    /// Bytes of what a step writes for one example.
    func bytes(of step: any Step) -> Int {
        step.writes.reduce(0) { $0 + ($1 >= 0 ? strides[$1] + extra[$1] : 0) }
    }

    /// A node's value after a step.
    struct Mark: Sendable {
        let step: Int
        let operand: Graph.Operand
        let slot: Slot
        let isCodes: Bool
        let layout: PixelLayout
    }
}

/// A part of a column's memory.
struct Slot: Sendable, Hashable {
    let index: Int
    /// What the caller feeds in, which is not ours.
    static let input = Slot(index: -1)
}

/// Pixels of `channels` values each, one behind the other. A vector is one pixel.
struct PixelLayout: Sendable, Hashable {
    let pixels: Int
    let channels: Int

    /// The layout of one example.
    init(_ example: some BidirectionalCollection<Int>) {
        channels = example.last ?? 1
        pixels = example.dropLast().reduce(1, *)
    }

    var count: Int { pixels * channels }
}

/// A part of a plan that runs on a column.
package protocol Step: Sendable {
    /// Of the node, for people.
    var name: String { get }
    /// What computes it, for people.
    var kernel: String { get }
    /// Slots that it reads; what it changes in place is among both.
    var reads: [Int] { get }
    /// Slots that it writes.
    var writes: [Int] { get }
    /// What is left of its weights where it skips the others; for people.
    var live: LiveBlocks? { get }
    /// Computes the column's examples.
    func run(_ column: borrowing Column)
}

extension Step {
    package var live: LiveBlocks? { nil }
}

/// The memory of a column while it is computed.
@safe package struct Column: ~Copyable {
    let base: UnsafeMutableRawPointer
    let input: UnsafePointer<Float>
    let plan: Plan
    /// Examples in it.
    let count: Int
    let kernels: esp_kernels

    func codes(_ slot: Slot, _ example: Int = 0) -> UnsafeMutablePointer<UInt8> {
        unsafe bytes(slot, example).assumingMemoryBound(to: UInt8.self)
    }

    /// - Precondition: the slot is ours.
    func floats(_ slot: Slot, _ example: Int = 0) -> UnsafeMutablePointer<Float> {
        unsafe bytes(slot, example).assumingMemoryBound(to: Float.self)
    }

    /// Also for what the caller feeds in.
    func source(_ slot: Slot, _ example: Int = 0) -> UnsafePointer<Float> {
        unsafe slot == .input
            ? input + example * plan.inputCount : UnsafePointer(floats(slot, example))
    }

    private func bytes(_ slot: Slot, _ example: Int) -> UnsafeMutableRawPointer {
        unsafe base + plan.places[slot.index] + example * plan.strides[slot.index]
    }
}

extension Plan {
    /// Computes `count` examples in one column.
    ///
    /// - Parameter observe: Told of every node's value as soon as it is there, where `observes` is set.
    func run(
        _ input: UnsafePointer<Float>, count: Int, into result: UnsafeMutablePointer<Float>,
        arena: PackedBuffer, kernels: esp_kernels,
        observes: Bool = false, observe: (Graph.Operand, NodeValue) -> Void = { _, _ in }
    ) {
        unsafe arena.writing { base in
            let column = unsafe Column(
                base: base, input: input, plan: self, count: count, kernels: kernels)
            var next = 0
            for index in steps.indices {
                steps[index].run(column)
                guard observes else { continue }
                while next < marks.count, marks[next].step == index {
                    observe(marks[next].operand, value(marks[next], column))
                    next += 1
                }
            }
            let values = unsafe column.source(output)
            unsafe result.update(from: values, count: count * outputCount)
        }
    }

    private func value(_ mark: Mark, _ column: borrowing Column) -> NodeValue {
        let layout = mark.layout
        guard mark.isCodes else {
            let start = unsafe column.source(mark.slot)
            return .floats(
                unsafe Array(
                    UnsafeBufferPointer(start: start, count: column.count * layout.count)))
        }
        let start = unsafe column.codes(mark.slot)
        let codes = unsafe Array(
            UnsafeBufferPointer(start: start, count: column.count * layout.count))
        return .codes(codes)
    }
}

/// A node's value, example after example, row-major.
package enum NodeValue: Sendable {
    case floats([Float])
    case codes([UInt8])
}
