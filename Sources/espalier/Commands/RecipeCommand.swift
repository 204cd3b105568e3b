import ArgumentParser
import EspalierTraining

struct RecipeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recipe", abstract: "Work on recipes.", subcommands: [Check.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Find everything that is wrong with recipes, without training.")

        @Argument(help: "Recipes, YAML files.")
        var recipes: [String]

        @Option(name: .customLong("set"), help: "Replace a value, as `train` does.")
        var assignments: [String] = []

        func run() throws {
            var isFaulty = false
            for path in recipes {
                do {
                    let recipe = try Recipe.checked(path: path, assignments: assignments)
                    print("\(path): good, \(recipe.stages.count) stages")
                } catch {
                    _ = fail(error)
                    isFaulty = true
                }
            }
            if isFaulty { throw ExitCode(1) }
        }

        func validate() throws {
            if recipes.isEmpty { throw ValidationError("name at least one recipe") }
        }
    }
}
