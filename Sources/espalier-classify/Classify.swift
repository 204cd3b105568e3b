// The smallest program around the runtime: opens a file, reads examples as raw 32-bit floats from standard input, and
// prints the index of the largest output of each. It links no Foundation, no BLAS and nothing of training.
import EspalierRuntime

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

@main
enum Classify {
    static func main() {
        guard CommandLine.arguments.count == 2 else {
            end("usage: espalier-classify FILE.espalier < examples.f32", code: 2)
        }
        do throws(ModelError) {
            let model = try Model(path: CommandLine.arguments[1])
            var example = [Float](repeating: 0, count: model.inputCount)
            var outputs = [Float](repeating: 0, count: model.outputCount)
            while read(into: &example) {
                model.run(example, into: &outputs)
                print(outputs.indices.reduce(0) { outputs[$1] > outputs[$0] ? $1 : $0 })
            }
        } catch {
            end("\(error)", code: 1)
        }
    }

    // Whether a whole example was there.
    private static func read(into example: inout [Float]) -> Bool {
        unsafe example.withUnsafeMutableBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = unsafe readDescriptor(
                    STDIN_FILENO, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count <= 0 { return false }
                done += count
            }
            return done > 0
        }
    }

    private static func end(_ message: String, code: Int32) -> Never {
        let bytes = Array((message + "\n").utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
        exit(code)
    }
}

// Under another name than the function above.
private let readDescriptor = unsafe read(_:_:_:)
