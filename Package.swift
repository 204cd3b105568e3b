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
        .library(name: "EspalierRuntime", targets: ["EspalierRuntime"]),
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
                "attention.inc", "attention_blocks.inc", "block_norms.inc",
                "convolution_scalar.inc", "copies.inc",
                "elements.inc", "elements_scalar.inc", "fused_scalar.inc", "int8.inc",
                "int8_avx2.inc", "int8_blocks.inc", "int8_scalar.inc", "layers.inc", "losses.inc",
                "norms.inc", "pooling.inc", "products.inc", "products_bf16.inc",
                "products_scalar.inc", "quantize.inc", "rows.inc", "sparse_f32.inc",
                "sparse_scalar.inc", "table.inc", "taps.inc", "updates.inc", "vector.inc",
                "winograd.inc", "words.inc", "words_avx2.inc",
            ]),
        .target(name: "CEspalierCodec"),
        .systemLibrary(
            name: "COpenBLAS", pkgConfig: "openblas",
            providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        library("EspalierTensors", ["CEspalierKernels"]),
        library("EspalierKernels", ["EspalierTensors", "CEspalierKernels"]),
        library("EspalierGraph", ["EspalierTensors", "CEspalierKernels"]),
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
        library(
            "EspalierCodec",
            ["EspalierGraph", "EspalierKernels", "EspalierTensors", "CEspalierCodec"]),
        library(
            "EspalierRuntime",
            [
                "EspalierCodec", "EspalierGraph", "EspalierKernels", "EspalierTensors",
                "CEspalierKernels",
            ]),
        library("EspalierData", ["EspalierTensors", "CZlib"]),
        library(
            "EspalierInterchange",
            ["EspalierCodec", "EspalierTensors", "EspalierKernels", "CEspalierCodec"]),
        library(
            "EspalierTraining",
            [
                "EspalierNN", "EspalierData", "EspalierInterchange", "EspalierEngine",
                "EspalierRuntime", "EspalierCodec", "EspalierGraph", "EspalierKernels",
                "EspalierTensors", "CEspalierKernels", yams,
            ]),
        .executableTarget(
            name: "espalier",
            dependencies: [
                "EspalierTraining", "EspalierRuntime", "EspalierInterchange", argumentParser,
            ],
            swiftSettings: settings),

        .executableTarget(
            name: "espalier-classify", dependencies: ["EspalierRuntime"], swiftSettings: settings),
        .executableTarget(
            name: "espalier-bench",
            dependencies: [
                "EspalierTraining", "EspalierInterchange", "EspalierCodec", "EspalierEngine",
                "EspalierNN", "EspalierKernels", "EspalierTensors", "CEspalierKernels", "COpenBLAS",
                argumentParser,
            ],
            swiftSettings: settings),
        library(
            "EspalierTesting",
            [
                "EspalierInterchange", "EspalierCodec", "EspalierNN", "EspalierEngine",
                "EspalierGraph", "EspalierKernels", "EspalierTensors",
            ]),

        tests("EspalierTensorsTests", ["EspalierTensors", "EspalierKernels", "CEspalierKernels"]),
        .testTarget(
            name: "EspalierCodecTests",
            dependencies: [
                "EspalierCodec", "EspalierGraph", "EspalierEngine", "EspalierNN",
                "EspalierKernels", "EspalierTensors", "EspalierTesting",
            ],
            exclude: ["container-1.0.hex", "entropy-1.0.hex", "graph-1.0.hex"],
            swiftSettings: settings),
        tests("EspalierDataTests", ["EspalierData", "EspalierTensors"]),
        tests(
            "EspalierTrainingTests",
            [
                "EspalierTraining", "EspalierRuntime", "EspalierInterchange", "EspalierCodec",
                "EspalierData", "EspalierNN", "EspalierEngine", "EspalierGraph", "EspalierKernels",
                "EspalierTensors", "CEspalierKernels",
            ]),
        tests(
            "EspalierEngineTests",
            [
                "EspalierEngine", "EspalierGraph", "EspalierNN", "EspalierTensors",
                "EspalierKernels", "EspalierInterchange",
            ]),
        tests(
            "EspalierNNTests",
            [
                "EspalierNN", "EspalierEngine", "EspalierGraph", "EspalierTensors",
                "EspalierKernels",
            ]),
        tests(
            "EspalierRuntimeTests",
            [
                "EspalierRuntime", "EspalierCodec", "EspalierNN", "EspalierEngine", "EspalierGraph",
                "EspalierKernels", "EspalierTensors", "CEspalierKernels",
            ]),
        tests(
            "EspalierInterchangeTests", ["EspalierInterchange", "EspalierCodec", "EspalierTensors"]),
    ],
    swiftLanguageModes: [.v6]
)

// `scripts/sanitize` builds readers, kernels and runtime with their tests, and nothing else.
if Context.environment["ESPALIER_READERS"] != nil {
    let others: Set = [
        "EspalierTraining", "espalier", "espalier-bench", "EspalierTrainingTests",
        "EspalierEngineTests", "EspalierNNTests", "EspalierDataTests", "EspalierData", "CZlib",
    ]
    package.targets.removeAll { others.contains($0.name) }
    package.products = []
}
