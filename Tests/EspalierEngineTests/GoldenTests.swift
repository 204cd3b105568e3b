import EspalierTensors
import EspalierTesting
import Foundation
import Testing

/// Truth computed by PyTorch in double precision.
@Suite struct GoldenTests {
    /// Cases whose op is built, but not in this variant.
    private static let refused: Set<String> = [
        "clip_norm_1", "qparams_s8_full", "sched_cosine_annealing", "sched_cosine_restarts",
        "sched_exponential", "sched_multistep", "sched_one_cycle", "sched_one_cycle_linear3",
        "sched_polynomial", "sched_polynomial_warmup", "sched_step",
    ]

    @Test func allCases() throws {
        let bodies = goldenBodies.merging(goldenTrainingBodies) { first, _ in first }
            .merging(goldenQuantizationBodies) { first, _ in first }
            .merging(goldenElementBodies) { first, _ in first }
            .merging(goldenShapeBodies) { first, _ in first }
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
        print("\(total.summary) [\(ISA.current.rawValue)]")
    }
}
