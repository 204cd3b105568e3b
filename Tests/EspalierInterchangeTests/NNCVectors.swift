import EspalierInterchange
import EspalierTensors
import EspalierTesting
import Foundation

/// Streams with what the public package nncodec makes of them.
struct NNCVector: Sendable, CustomStringConvertible {
    struct Stream: Sendable {
        let bytes: [UInt8]
        let tensors: [Item]
        let settings: Settings
        let density: Int
    }

    struct Item: Sendable {
        let name: String
        let method: String
        let qp: Int?
        let isDependent: Bool
        let scanOrder: Int
        /// The values given to the encoder, floats or integers, where they are kept.
        let input: Array?
        let codes: [Int32]?
        let output: Array?
    }

    /// What was set beside the defaults.
    struct Settings: Sendable {
        let greaterFlags: Int
        let skipsRows: Bool
        let searches: Bool
        let lambda: Double
        let profile: Int
    }

    enum Array: Sendable, Equatable {
        case floats([UInt32], [Int])
        case integers([Int32], [Int])
    }

    let name: String
    let isLegacy: Bool
    let streams: [Stream]
    var description: String { name }

    /// The vectors that come with the tests, and all where they are at hand.
    static let small = all(in: Fixtures.packageRoot + "/Tests/Golden/nnc")
    static let folder =
        ProcessInfo.processInfo.environment["ESPALIER_NNC_VECTORS"]
        ?? Fixtures.packageRoot + "/../shared/nnc-vectors"
    static let complete = all(in: folder)
    static let available = complete.isEmpty ? small : complete

    private static func all(in folder: String) -> [NNCVector] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.sorted().compactMap { NNCVector(folder + "/" + $0, $0) }
    }

    private init?(_ folder: String, _ name: String) {
        guard let data = FileManager.default.contents(atPath: folder + "/vector.json"),
            let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        else { return nil }
        self.name = name
        isLegacy = json["legacy"] as? Bool ?? false
        streams = (json["sequence"] as? [[String: Any]] ?? [json]).compactMap { part in
            guard let stream = part["stream"] as? [String: Any],
                let file = stream["file"] as? String,
                let bytes = FileManager.default.contents(atPath: folder + "/" + file),
                let tensors = part["tensors"] as? [[String: Any]]
            else { return nil }
            let settings = part["settings"] as? [String: Any] ?? [:]
            return Stream(
                bytes: [UInt8](bytes), tensors: tensors.map { Item($0, folder) },
                settings: Settings(
                    greaterFlags: (settings["cabac_unary_length_minus1"] as? Int ?? 10) + 1,
                    skipsRows: settings["row_skipping"] as? Bool ?? false,
                    searches: settings["param_opt"] as? Bool ?? true,
                    lambda: settings["lambda_scale"] as? Double ?? 0,
                    profile: settings["general_profile_idc"] as? Int ?? 1),
                density: json["qp_density"] as? Int ?? 2)
        }
    }
}

extension NNCVector.Item {
    fileprivate init(_ json: [String: Any], _ folder: String) {
        name = json["id"] as? String ?? ""
        method = json["method"] as? String ?? "uniform"
        qp = json["qp"] as? Int
        isDependent = json["dq_flag"] as? Int == 1
        scanOrder = json["scan_order"] as? Int ?? 0
        func array(_ key: String) -> NNCVector.Array? {
            (json[key] as? String).flatMap { NNCVector.Array(npy: folder + "/" + $0) }
        }
        input = array("in")
        output = array("out")
        if case .integers(let values, _) = array("codes") {
            codes = values
        } else {
            codes = nil
        }
    }
}

extension NNCVector.Array {
    /// A .npy file of version 1.0 with little-endian numbers of 32 bits in C order.
    fileprivate init?(npy path: String) {
        guard let data = FileManager.default.contents(atPath: path), data.count > 10 else {
            return nil
        }
        let bytes = [UInt8](data)
        let start = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
        guard start <= bytes.count else { return nil }
        let header = String(decoding: bytes[10..<start], as: UTF8.self)
        guard let open = header.lastIndex(of: "("), let close = header.lastIndex(of: ")") else {
            return nil
        }
        let shape = header[header.index(after: open)..<close].split(separator: ",").compactMap {
            Int($0.trimmingCharacters(in: .whitespaces))
        }
        let words = stride(from: start, to: bytes.count - 3, by: 4).map { place in
            (0..<4).reduce(0 as UInt32) { $0 | UInt32(bytes[place + $1]) << (8 * UInt32($1)) }
        }
        if header.contains("<f4") {
            self = .floats(words, shape)
        } else {
            self = .integers(words.map(Int32.init(bitPattern:)), shape)
        }
    }

    /// As floats.
    var tensor: Tensor? {
        guard case .floats(let words, let shape) = self else { return nil }
        return Tensor(words.map(Float.init(bitPattern:)), shape: Shape(shape))
    }
}
