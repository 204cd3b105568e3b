public import EspalierCodec
public import EspalierInterchange
import EspalierTensors

/// Tensors of one file in another format: between safetensors and NNC (ISO/IEC 15938-17).
public struct FileConversion: CustomStringConvertible {
    public let description: String

    /// Writes the tensors of a file as another file; what they are, the ends of the names say.
    ///
    /// - Parameters:
    ///   - source: `.nnc` or `.safetensors`.
    ///   - path: The file to write, of the other kind; an existing one is replaced in one step.
    ///   - options: How floats are quantized for NNC.
    /// - Throws: `FileError` where something is missing, damaged, or cannot be written.
    public init(_ source: String, to path: String, options: NNCWriter.Options) throws(FileError) {
        let count: Int
        switch (source.hasSuffix(".nnc"), path.hasSuffix(".nnc")) {
        case (true, false) where path.hasSuffix(".safetensors"):
            count = try FileConversion.toSafeTensors(source, path)
        case (false, true) where source.hasSuffix(".safetensors"):
            count = try FileConversion.toNNC(source, path, options)
        default:
            throw FileError(
                path: source, "conversion is between files that end in .nnc and .safetensors")
        }
        description = "\(source) -> \(path), \(count) tensors"
    }

    private static func toSafeTensors(_ source: String, _ path: String) throws(FileError) -> Int {
        let file = try NNCReader(contentsOf: source)
        var writer = SafeTensors.Writer()
        writer.metadata["format"] = "nnc-decoded"
        var names: Set<String> = []
        // Of tensors with one name the last counts.
        for tensor in file.tensors.reversed() where names.insert(tensor.name).inserted {
            guard tensor.isInteger else {
                writer.add(tensor.name, tensor.floats)
                continue
            }
            let codes = tensor.codes
            let range = (codes.elements.min() ?? 0)...(codes.elements.max() ?? 0)
            let type: SafeTensors.ElementType
            switch tensor.format {
            case .int8, .int4, .int3, .int2:
                type = range.lowerBound >= -128 && range.upperBound <= 127 ? .i8 : .i32
            case .int16:
                type = range.lowerBound >= -32768 && range.upperBound <= 32767 ? .i16 : .i32
            default: type = .i32
            }
            writer.add(tensor.name, integers: codes, type: type)
        }
        try writer.write(to: path)
        return names.count
    }

    private static func toNNC(
        _ source: String, _ path: String, _ options: NNCWriter.Options
    ) throws(FileError) -> Int {
        let file = try SafeTensors(contentsOf: source)
        var writer = NNCWriter(options: options)
        for (name, entry) in file.entries.sorted(by: { $0.key < $1.key }) {
            do {
                switch entry.type {
                case .f64, .f32, .f16, .bf16: try writer.add(name, file.tensor(name))
                case .i8: try writer.add(name, integers: file.integers(name), format: .int8)
                case .i16: try writer.add(name, integers: file.integers(name), format: .int16)
                default: try writer.add(name, integers: file.integers(name))
                }
            } catch let error as FileError {
                throw error
            } catch {
                throw FileError(path: source, "\(error)")
            }
        }
        try writer.write(to: path)
        return file.entries.count
    }
}
