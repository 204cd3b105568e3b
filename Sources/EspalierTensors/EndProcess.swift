#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Ends the program with one line on standard error: for settings in the environment that cannot be followed, which
/// are the user's mistake and not a fault of the program.
package func endProcess(_ message: String) -> Never {
    let bytes = Array(("error: " + message + "\n").utf8)
    _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    exit(2)
}
