/// Ends the program with a message where a condition does not hold.
///
/// For mistakes in a caller's code. Unlike a failed `precondition`, it shows its message in optimized builds too.
package func require(
    _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String,
    file: StaticString = #fileID, line: UInt = #line
) {
    if !condition() { fatalError(message(), file: file, line: line) }
}
