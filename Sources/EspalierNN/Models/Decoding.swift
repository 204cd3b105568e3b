extension KeyedDecodingContainer {
    /// Replaces a default by what is there under a key, if anything is.
    func read<Field: Decodable>(_ key: Key, into target: inout Field) throws {
        if let value = try decodeIfPresent(Field.self, forKey: key) { target = value }
    }
}
