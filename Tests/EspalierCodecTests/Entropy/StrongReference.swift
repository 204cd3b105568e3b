/// The strong mode of docs/entropy.md, section 3, written from that text with no regard to speed: what the coder in C
/// is compared with. One class reads and writes; a decision is given when writing and found when reading.
final class StrongReference {
    private struct Estimate {
        var one = 1 << 21
        var uses = 0
    }

    private struct Place: Hashable {
        let context: Int
        let node: Int
    }

    private let rows: Int
    private let columns: Int
    private let isWriting: Bool
    private var estimates: [Place: Estimate] = [:]
    private var codes: [[Int]]

    // What is written: digits to the base 256 with carries done in place, and plain bits.
    private var digits: [Int] = []
    private var low: UInt64 = 0
    private var range: UInt64 = .max
    private var plain: [Bool] = []

    // What is read.
    private var input: [UInt8] = []
    private var front = 0
    private var back = 0
    private var code: UInt64 = 0

    static func encoded(_ codes: [Int8], rows: Int, columns: Int) -> [UInt8] {
        let table = (0..<rows).map { row in (0..<columns).map { Int(codes[row * columns + $0]) } }
        return StrongReference(table, rows, columns, isWriting: true).write()
    }

    static func decoded(_ bytes: [UInt8], rows: Int, columns: Int) -> [Int8] {
        let zeros = [[Int]](repeating: [Int](repeating: 0, count: columns), count: rows)
        return StrongReference(zeros, rows, columns, isWriting: false).read(bytes)
    }

    private init(_ codes: [[Int]], _ rows: Int, _ columns: Int, isWriting: Bool) {
        (self.codes, self.rows, self.columns, self.isWriting) = (codes, rows, columns, isWriting)
    }

    private func write() -> [UInt8] {
        let zeros = codes.joined().count { $0 == 0 }
        let isSparse = zeros > rows * columns / 2
        tile(isSparse)
        // The shortest ending after which any bytes may follow.
        for kept in 1...8 {
            let rest: UInt64 = kept == 8 ? 0 : .max >> (8 * kept)
            let (sum, carry) = low.addingReportingOverflow(rest)
            let value = sum & ~rest
            guard (value &- low) + rest < range else { continue }
            if carry { self.carry() }
            for place in 0..<kept { digits.append(Int(value >> (56 - 8 * place) & 255)) }
            break
        }
        while plain.count % 8 != 0 { plain.append(false) }
        var tail: [UInt8] = []
        for start in stride(from: 0, to: plain.count, by: 8) {
            tail.append((0..<8).reduce(0) { $0 | (plain[start + $1] ? 1 << $1 : 0) })
        }
        return [isSparse ? 1 : 0] + digits.map { UInt8($0) } + tail.reversed()
    }

    private func read(_ bytes: [UInt8]) -> [Int8] {
        input = bytes
        front = 1
        for _ in 0..<8 { code = code << 8 | UInt64(nextByte()) }
        tile(bytes[0] == 1)
        return codes.joined().map { Int8(truncatingIfNeeded: $0) }
    }

    // MARK: Decisions

    private func carry() {
        var at = digits.count - 1
        while digits[at] == 255 {
            digits[at] = 0
            at -= 1
        }
        digits[at] += 1
    }

    private func nextByte() -> UInt8 {
        defer { front += 1 }
        return front < input.count ? input[front] : 0
    }

    private func decide(_ given: Bool, _ context: Int, _ node: Int) -> Bool {
        let place = Place(context: context, node: node)
        var estimate = estimates[place] ?? Estimate()
        let share = range / 65536 * UInt64(estimate.one / 64)
        let bit = isWriting ? given : code < share
        if bit {
            range = share
        } else {
            range -= share
            if isWriting {
                let (sum, overflow) = low.addingReportingOverflow(share)
                low = sum
                if overflow { carry() }
            } else {
                code -= share
            }
        }
        if range < 1 << 32 {
            for place in 0..<4 {
                if isWriting {
                    digits.append(Int(low >> (56 - 8 * place) & 255))
                } else {
                    code = code << 8 | UInt64(nextByte())
                }
            }
            if isWriting { low <<= 32 }
            range <<= 32
        }
        let step = 655_360 / (10 * estimate.uses + 16)
        if bit {
            estimate.one += (4_194_303 - estimate.one) * step / 65536
        } else {
            estimate.one -= estimate.one * step / 65536
        }
        estimate.uses = min(estimate.uses + 1, 255)
        estimates[place] = estimate
        return bit
    }

    private func plainBits(_ given: Int, _ count: Int) -> Int {
        var value = 0
        for index in 0..<count {
            let bit: Bool
            if isWriting {
                bit = given >> index & 1 == 1
                plain.append(bit)
            } else {
                let byte = input.count - 1 - back / 8
                bit = byte >= 1 && input[byte] >> (back % 8) & 1 == 1
                back += 1
            }
            value |= bit ? 1 << index : 0
        }
        return value
    }

    private func value(_ given: Int, _ context: Int) -> Int {
        var width = isWriting ? Int.bitWidth - given.leadingZeroBitCount : 0
        var node = 1
        for shift in [2, 1, 0] {
            node = 2 * node + (decide(width >> shift & 1 == 1, context, node) ? 1 : 0)
        }
        width = node - 8
        guard width >= 2 else { return width }
        var prefix = 1
        let known = min(width - 1, 3)
        for index in 0..<known {
            let bit = given >> (width - 2 - index) & 1 == 1
            prefix = 2 * prefix + (decide(bit, context, 8 + 8 * width + prefix) ? 1 : 0)
        }
        let rest = width - 1 - known
        return (prefix << rest) + plainBits(given % (1 << rest), rest)
    }

    private func sign(_ isNegative: Bool, value: Int, _ context: Int) -> Bool {
        value < 16
            ? decide(isNegative, context, 72 + value) : plainBits(isNegative ? 1 : 0, 1) == 1
    }

    // MARK: Sizes

    private static func log(_ size: Int) -> Int {
        guard size >= 8 else { return size }
        let octave = Int.bitWidth - 1 - size.leadingZeroBitCount
        return (octave - 2) * 8 + (size >> (octave - 3)) % 8
    }

    private func tile(_ isSparse: Bool) {
        var level = isSparse ? 384 : 1920
        var column = [Int](repeating: level, count: columns)
        for row in 0..<rows {
            var sizes: [Int] = []
            var rowLog = 0
            var floor = 0
            if isSparse {
                floor = codes[row].filter { $0 != 0 }.map { abs($0) }.min() ?? 0
                guard decide(floor > 0, 96, 0) else {
                    finish(row, [Int](repeating: 0, count: columns), &column, &level, 7)
                    continue
                }
                floor = value(floor - 1, 96) + 1
            }
            for index in 0..<columns {
                if index % 8 == 0 {
                    let total = sizes.reduce(0, +) * 64 + level * 16
                    rowLog = Self.log(total / (index + 16))
                }
                let sum = (rowLog - Self.log(level) + Self.log(column[index]))
                let context = min(max(sum / 2, 0), 63)
                if isSparse {
                    sizes.append(weight(row, index, floor: floor, context))
                } else {
                    let given = codes[row][index]
                    let magnitude = value(given < 0 ? -1 - given : given, context)
                    let isNegative = sign(given < 0, value: magnitude, context)
                    codes[row][index] = isNegative ? -1 - magnitude : magnitude
                    sizes.append(abs(codes[row][index]))
                }
            }
            finish(row, sizes, &column, &level, isSparse ? 7 : 6)
        }
    }

    /// A weight of a sparse tile; its size.
    private func weight(_ row: Int, _ index: Int, floor: Int, _ context: Int) -> Int {
        let given = codes[row][index]
        guard decide(given != 0, context, 0) else { return 0 }
        let values = 64 + min(Self.log(floor) / 2, 31)
        let magnitude = value(abs(given) - floor, values) + floor
        codes[row][index] = sign(given < 0, value: magnitude, values) ? -magnitude : magnitude
        return 64
    }

    private func finish(
        _ row: Int, _ sizes: [Int], _ column: inout [Int], _ level: inout Int, _ rate: Int
    ) {
        for index in 0..<columns { column[index] += (sizes[index] * 64 - column[index]) >> rate }
        let mean = sizes.reduce(0, +) * 64 / columns
        level = max(row == 0 ? mean : level + ((mean - level) >> 4), 1)
    }
}
