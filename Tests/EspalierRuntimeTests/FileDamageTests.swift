import EspalierCodec
import EspalierGraph
import EspalierRuntime
import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// The runtime against files that are not as they were written.
@Suite struct FileDamageTests {
    private func problem(_ make: () throws(ModelError) -> Model) -> String? {
        do throws(ModelError) {
            _ = try make()
            return nil
        } catch { return error.description }
    }

    // The part of a file that a byte belongs to, as errors call it.
    private func part(
        of byte: Int, in reader: ContainerReader<[UInt8]>
    ) -> String {
        switch byte {
        case 0..<60, 64..<reader.headerBytes: "network header:"
        case let byte:
            reader.layers.first { $0.extent.contains(byte) }.map { "layer \($0.header.id):" }
                ?? "layer headers:"
        }
    }

    @Test("Every truncation and every flipped bit of a sparse quantized file names its part")
    func everyBit() throws {
        let bytes = try GraphSamples.tiny.encoded(description: [9], producer: "test")
        let reader = try GraphFile(bytes).reader
        #expect(problem { () throws(ModelError) in try Model(bytes: bytes) } == nil)
        for length in 0..<bytes.count {
            let text = problem { () throws(ModelError) in
                try Model(bytes: Array(bytes[..<length]))
            }
            #expect(text?.contains("network header:") == true, "\(length)")
        }
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            let text = problem { () throws(ModelError) in try Model(bytes: damaged) }
            #expect(text?.contains(part(of: bit / 8, in: reader)) == true, "bit \(bit)")
        }
    }

    @Test("The same of files that are read, and mapped", arguments: [false, true])
    func onDisk(isMapped: Bool) throws {
        let bytes = try GraphSamples.tiny.encoded()
        let reader = try GraphFile(bytes).reader
        try Fixtures.withFolder { folder in
            let path = folder + "/network.espalier"
            func problem(_ content: [UInt8]) -> String? {
                #expect(FileManager.default.createFile(atPath: path, contents: Data(content)))
                return self.problem { () throws(ModelError) in
                    try Model(path: path, isMapped: isMapped)
                }
            }
            #expect(problem(bytes) == nil)
            for length in 0..<bytes.count {
                let text = problem(Array(bytes[..<length]))
                #expect(text?.hasPrefix(path) == true, "\(length)")
                #expect(text?.contains("network header:") == true)
            }
            for byte in bytes.indices {
                var damaged = bytes
                damaged[byte] ^= 1 << (byte % 8)
                let text = problem(damaged)
                #expect(text?.contains(part(of: byte, in: reader)) == true, "byte \(byte)")
            }
            #expect(
                self.problem { () throws(ModelError) in
                    try Model(path: folder + "/none", isMapped: isMapped)
                }?.contains("none") == true)
            #expect(
                self.problem { () throws(ModelError) in
                    try Model(path: folder, isMapped: isMapped)
                }?.contains(folder) == true)
        }
    }

    /// What a reader must not believe: every mutant is refused with its reason, or planned and run.
    @Test("Damage behind right checksums is refused, or runs", arguments: 0..<4)
    func repairedChecksums(seed: Int) throws {
        let samples = try GraphSamples.cases.filter { $0.testDescription != "quickstart" }
            .map { try $0.make().encoded() }
        let headers = try samples.map {
            try GraphFile($0).reader.layers.first?.extent.lowerBound ?? 0
        }
        var (ran, refused) = (0, 0)
        let root = RandomStream(seed: UInt64(seed))
        for round in 0..<1_500 {
            let random = root.child(UInt64(round))
            let index = round % samples.count
            let bytes = FileDamage.damaged(samples[index], headers: headers[index], random: random)
            do throws(ModelError) {
                let model = try Model(bytes: bytes, limits: FileDamageTests.limits)
                try run(model, isa: ISA.available[round % ISA.available.count], random)
                ran += 1
            } catch {
                let parts = [
                    "network header", "layer headers", "layer ", "node ", "input ", "constant ",
                ]
                #expect(parts.contains { error.problem.hasPrefix($0) }, "\(error)")
                refused += 1
            }
        }
        // All must happen, or the mutations are too wild or too tame to mean anything.
        #expect(ran > 100 && refused > 500, "\(ran) run, \(refused) refused")
    }

    // So that a mutant that asks for more than a moment is refused.
    private static let limits = Limits(bytes: 1 << 23, work: 1 << 22)

    @Test("Attributes, grids and edges that nobody would choose", arguments: 0..<4)
    func graphs(seed: Int) throws {
        let samples = try GraphSamples.cases.map { try $0.make() }
        var (ran, refused, limited) = (0, 0, 0)
        let root = RandomStream(seed: UInt64(seed)).child("graphs")
        for round in 0..<2_500 {
            let random = root.child(UInt64(round))
            let graph = samples[round % samples.count].damaged(random: random)
            do throws(GraphError) {
                let model = try Model(graph, limits: FileDamageTests.limits)
                try? run(model, isa: ISA.available[round % ISA.available.count], random)
                ran += 1
            } catch {
                refused += 1
                if error.description.contains("at most") { limited += 1 }
            }
        }
        #expect(
            ran > 200 && refused > 200 && limited > 0,
            "\(ran) run, \(refused) refused, \(limited) by limits")
    }

    private func run(_ model: Model, isa: ISA, _ random: RandomStream) throws(ModelError) {
        for batch in [1, 3] {
            var values = random.normal(batch * model.inputCount)
            // What no training has seen.
            for (place, value) in zip(
                random.integers(4, below: values.count),
                [Float.nan, .infinity, -3e38, .leastNonzeroMagnitude])
            {
                values[place] = value
            }
            let tensor = Tensor(values, shape: Shape([batch] + model.inputExtents))
            #expect(model.run(tensor, isa: isa).count == batch * model.outputCount)
            #expect(try model.run(values).count == batch * model.outputCount)
        }
    }
}
