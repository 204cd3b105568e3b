// swift-tools-version: 6.2

import PackageDescription

/// The language settings of every Swift target: warnings never accumulate, and every use of a
/// pointer is marked `unsafe` where it stands.
let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .strictMemorySafety(),
    .enableExperimentalFeature("Lifetimes"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// A Swift library target of the framework. Dependencies only point up the list in `targets`.
func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["EspalierTesting"], swiftSettings: settings)
}

let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let argumentParser: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "espalier",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "EspalierTraining", targets: ["EspalierTraining"]),
        .executable(name: "espalier", targets: ["espalier"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .target(
            name: "CEspalierKernels",
            exclude: [
                "int8.inc", "int8_avx2.inc", "int8_blocks.inc", "int8_scalar.inc", "layers.inc",
                "quantize.inc", "table.inc", "vector.inc", "words.inc", "words_avx2.inc",
            ]),
        .systemLibrary(
            name: "COpenBLAS", pkgConfig: "openblas",
            providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        library("EspalierTensors", ["CEspalierKernels"]),
        library("EspalierKernels", ["EspalierTensors", "CEspalierKernels"]),
        library("EspalierGraph", ["EspalierTensors"]),
        library(
            "EspalierEngine",
            [
                "EspalierGraph", "EspalierKernels", "EspalierTensors", "COpenBLAS",
                "CEspalierKernels",
            ]),
        library(
            "EspalierNN",
            [
                "EspalierEngine", "EspalierGraph", "EspalierKernels", "EspalierTensors",
                "CEspalierKernels",
            ]),
        library("EspalierCodec", ["EspalierKernels", "EspalierTensors"]),
        library("EspalierData", ["EspalierTensors", "CZlib"]),
        library("EspalierInterchange", ["EspalierTensors", "EspalierKernels"]),
        library(
            "EspalierTraining",
            [
                "EspalierNN", "EspalierData", "EspalierInterchange", "EspalierEngine",
                "EspalierKernels", "EspalierTensors", yams,
            ]),
        .executableTarget(
            name: "espalier",
            dependencies: ["EspalierTraining", argumentParser],
            swiftSettings: settings),

        .executableTarget(
            name: "espalier-bench",
            dependencies: [
                "EspalierTraining", "EspalierEngine", "EspalierNN", "EspalierKernels",
                "EspalierTensors", "CEspalierKernels", "COpenBLAS", argumentParser,
            ],
            swiftSettings: settings),
        library(
            "EspalierTesting",
            [
                "EspalierTraining", "EspalierInterchange", "EspalierNN", "EspalierEngine",
                "EspalierGraph", "EspalierTensors",
            ]),

        tests("EspalierTensorsTests", ["EspalierTensors", "EspalierKernels", "CEspalierKernels"]),
        .testTarget(
            name: "EspalierCodecTests",
            dependencies: ["EspalierCodec", "EspalierTensors", "EspalierTesting"],
            exclude: ["container-1.0.hex"], swiftSettings: settings),
        tests("EspalierDataTests", ["EspalierData", "EspalierTensors"]),
        tests(
            "EspalierTrainingTests",
            [
                "EspalierTraining", "EspalierInterchange", "EspalierData", "EspalierNN",
                "EspalierTensors",
            ]),
        tests(
            "EspalierEngineTests",
            [
                "EspalierEngine", "EspalierGraph", "EspalierNN", "EspalierTensors",
                "EspalierKernels",
            ]),
        tests(
            "EspalierNNTests",
            [
                "EspalierNN", "EspalierEngine", "EspalierGraph", "EspalierTensors",
                "EspalierKernels",
            ]),
        tests("EspalierInterchangeTests", ["EspalierInterchange", "EspalierTensors"]),
    ],
    swiftLanguageModes: [.v6]
)
