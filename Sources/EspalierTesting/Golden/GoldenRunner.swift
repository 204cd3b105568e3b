package import EspalierTensors
import Foundation

/// Runs every golden file that it finds, by the file's op.
package struct GoldenRunner {
    /// What one case gives: tensors by the names that the file uses.
    package typealias Body = @Sendable (GoldenCase) throws -> [String: GoldenResult]

    /// How a run ended.
    package struct Report {
        package var passed = 0
        package var failures: [String] = []
        package var notCovered: [String: Int] = [:]
        /// Names of the cases whose op has a body that does not cover them.
        package var refused: Set<String> = []
        /// Names of all cases.
        package var cases: Set<String> = []

        package init() {}

        /// The closing line.
        package var summary: String {
            "golden: \(passed) passed, \(failures.count) failed, "
                + "\(notCovered.values.reduce(0, +)) not covered"
        }
    }

    /// `ESPALIER_GOLDEN`, else `../shared/golden` beside the package where it exists, else the selection in
    /// the repository.
    package static func folders(package root: String) -> [String] {
        if let folder = ProcessInfo.processInfo.environment["ESPALIER_GOLDEN"] { return [folder] }
        let shared = root + "/../shared/golden"
        let own = root + "/Tests/Golden"
        return FileManager.default.fileExists(atPath: shared) ? [own, shared] : [own]
    }

    /// Runs all files below `folder` whose op has a body; a body that returns nil does not cover the case.
    package static func run(_ folder: String, _ bodies: [String: Body]) throws -> Report {
        var report = Report()
        let walk = FileManager.default.enumerator(atPath: folder)
        let files = (walk?.allObjects as? [String] ?? []).filter { $0.hasSuffix(".safetensors") }
        for file in files.sorted() {
            let test = try GoldenCase(contentsOf: folder + "/" + file)
            report.cases.insert(test.name)
            guard let body = bodies[test.op] else {
                report.notCovered[test.op, default: 0] += 1
                continue
            }
            do {
                let problems = try check(test, body(test))
                if problems.isEmpty {
                    report.passed += 1
                } else {
                    report.failures += problems.map { "\(file): \($0)" }
                }
            } catch is NotCovered {
                report.refused.insert(test.name)
                report.notCovered[test.op, default: 0] += 1
            } catch {
                report.failures.append("\(file): \(error)")
            }
        }
        return report
    }

    private static func check(_ test: GoldenCase, _ got: [String: GoldenResult]) throws -> [String]
    {
        var problems: [String] = []
        for name in test.results {
            switch got[name] {
            case .tensor(let tensor):
                if let problem = try test.difference(name, tensor) { problems.append(problem) }
            case .covered: break
            case nil: problems.append("\(name): not computed")
            }
        }
        return problems
    }
}

/// A computed result.
package enum GoldenResult {
    case tensor(Tensor)
    /// Checked by the body itself, or by other means.
    case covered
}

/// Thrown by a body for a variant of its op that is not built.
package struct NotCovered: Error {
    package init() {}
}
