import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// Truth computed by PyTorch in double precision.
@Suite struct GoldenTests {
    /// Cases whose op is built, but not in this variant.
    private static let refused: Set<String> = [
        "qparams_s8_full"
    ]

    @Test func allCases() throws {
        let bodies = goldenBodies.merging(goldenTrainingBodies) { first, _ in first }
            .merging(goldenQuantizationBodies) { first, _ in first }
            .merging(goldenElementBodies) { first, _ in first }
            .merging(goldenShapeBodies) { first, _ in first }
            .merging(goldenLossBodies) { first, _ in first }
            .merging(goldenLayerBodies) { first, _ in first }
            .merging(goldenModelBodies) { first, _ in first }
        var total = GoldenRunner.Report()
        for folder in GoldenRunner.folders(package: Fixtures.packageRoot) {
            let report = try GoldenRunner.run(folder, bodies)
            #expect(report.passed > 0, "no golden file in \(folder) was covered")
            total.passed += report.passed
            total.failures += report.failures
            total.refused.formUnion(report.refused)
            total.cases.formUnion(report.cases)
            total.notCovered.merge(report.notCovered, uniquingKeysWith: +)
        }
        // A body that no longer covers a case would else pass unseen.
        #expect(total.refused == GoldenTests.refused.intersection(total.cases))
        for failure in total.failures { Issue.record("\(failure)") }
        print("not covered: \(total.notCovered.keys.sorted())")
        print("\(total.summary) [\(ISA.current.rawValue)]")
    }
}
