import EspalierNN

extension Recipe {
    /// What a run leaves for others to use.
    public struct Export: Sendable {
        /// The place of the entry.
        public var position: RecipePosition
        /// The stage whose network ships.
        public var stage: Located<String>
        /// Whether the file must classify the test part as the trained network does.
        public var requiresEqualPredictions: Bool
        /// The bytes that it must stay below.
        public var sizeBelow: Int?
    }
}

extension Recipe.Export {
    private enum Format: String, CaseIterable {
        case espalier
    }

    private enum Predictions: String, CaseIterable {
        case equal
    }

    /// `{stage, format, require: {predictions: equal, size_below: 12 KB}}`
    init?(_ node: RecipeNode, _ problems: RecipeProblems) {
        let fields = RecipeFields(node, "'export'", problems)
        defer { fields.finish() }
        position = node.position
        _ = fields.choice("format", Format.self)
        requiresEqualPredictions = false
        if let node = fields.node("require") {
            let require = RecipeFields(node, "'require'", problems)
            requiresEqualPredictions = require.choice("predictions", Predictions.self) == .equal
            if let size = require.located("size_below") {
                sizeBelow = Recipe.Export.bytes(size.value)
                if sizeBelow == nil {
                    problems.add(
                        "'size_below' is a number of bytes, such as 12 KB, 1 MiB or 12000, not "
                            + "'\(size.value)'", at: size.position)
                }
            }
            require.finish()
        }
        guard fields.require("stage") != nil, let stage = fields.located("stage") else {
            return nil
        }
        self.stage = stage
    }

    /// Bytes as people write them; nil where they are not understood.
    static func bytes(_ text: String) -> Int? {
        let parts = text.split(separator: " ")
        let units = ["B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024, "MiB": 0x1p20]
        guard let first = parts.first, parts.count <= 2, let number = Double(first),
            let unit = units[parts.count == 2 ? String(parts[1]) : "B"]
        else { return nil }
        let bytes = number * unit
        return bytes >= 1 && bytes < 1e15 && bytes == bytes.rounded() ? Int(bytes) : nil
    }
}
