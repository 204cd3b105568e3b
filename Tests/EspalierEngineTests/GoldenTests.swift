import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// Truth computed by PyTorch in double precision.
@Suite struct GoldenTests {
    @Test func allCases() throws {
        let bodies = goldenBodies.merging(goldenTrainingBodies) { first, _ in first }
            .merging(goldenQuantizationBodies) { first, _ in first }
        var total = GoldenRunner.Report()
        for folder in GoldenRunner.folders(package: Fixtures.packageRoot) {
            let report = try GoldenRunner.run(folder, bodies)
            #expect(report.passed > 0, "no golden file in \(folder) was covered")
            total.passed += report.passed
            total.failures += report.failures
            total.notCovered.merge(report.notCovered, uniquingKeysWith: +)
        }
        for failure in total.failures { Issue.record("\(failure)") }
        print("\(total.summary) [\(ISA.current.rawValue)]")
    }
}
