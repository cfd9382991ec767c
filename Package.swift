// swift-tools-version: 6.2
import PackageDescription

// The house, floor by floor: a target may depend only on floors below its own (scripts/lint checks the
// imports, this manifest the rest).
let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let histogram = Target.Dependency.product(name: "Histogram", package: "hdrhistogram-swift")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

func library(
  _ name: String, _ dependencies: [Target.Dependency], _ more: [SwiftSetting] = []
) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict + more)
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: dependencies, swiftSettings: Array(strict.dropFirst()))
}

let package = Package(
  name: "swivel",
  products: [
    .executable(name: "swiveld", targets: ["swiveld"]),
    .executable(name: "swivel", targets: ["swivel"]),
    .executable(name: "swivel-bench", targets: ["swivel-bench"]),
    .library(name: "VirtioDriver", targets: ["VirtioDriver"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    // floor 0
    .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
    .target(name: "CVector", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
    .systemLibrary(name: "CNuma", providers: [.apt(["libnuma-dev"])]),
    .systemLibrary(name: "CSeccomp", providers: [.apt(["libseccomp-dev"])]),
    // floor 1
    library("Linux", ["CLinux", "CNuma", "CSeccomp", system]),
    library("ControlAPI", []),
    library("ControlClient", ["ControlAPI", "Linux", system]),
    // floor 2
    library(
      "Dataplane", ["CLinux", "CVector", "Linux"],
      // As release builds are compiled: then `@_noLocks @_noAllocation` can be held against other files too.
      [.define("WHOLE_MODULE", .when(configuration: .release))]),
    library("VhostUser", ["CLinux", "Linux", system]),
    // floor 3
    library("Switch", ["ControlAPI", "Dataplane", "Linux", "VhostUser", logging, system]),
    // floor 4
    library("Control", ["ControlAPI", "Linux", logging, system]),
    // floor 5
    library("Configuration", ["Control", "ControlAPI", yams]),
    // floor 6
    program(
      "swiveld",
      [
        "Configuration", "Control", "ControlAPI", "Linux", "Switch", argumentParser, logging,
        system,
      ]),
    program("swivel", ["ControlAPI", "ControlClient", "Linux", argumentParser, system]),
    // tools: the guest's side
    library("VirtioDriver", ["CLinux", "Linux", system]),
    program(
      "swivel-bench",
      [
        "ControlAPI", "ControlClient", "Linux", "VirtioDriver", argumentParser, histogram, system,
      ]),
    library("Hostile", ["CLinux", "ControlAPI", "ControlClient", "Linux", "VirtioDriver", system]),
    program("swivel-hostile", ["ControlAPI", "Hostile", "Linux", argumentParser]),
    // Not a product: for scripts/instructions.
    program("swivel-count", ["CVector", "Dataplane", "Linux", "VirtioDriver"]),

    tests("Linux", ["Linux", "CLinux", system]),
    tests("Dataplane", ["Dataplane", "CLinux", "CVector", "Linux"]),
    tests("VhostUser", ["VhostUser", "Linux", system]),
    tests("VirtioDriver", ["VirtioDriver", "Linux", system]),
    tests(
      "Switch", ["Switch", "ControlAPI", "Dataplane", "Linux", "VirtioDriver", logging, system]),
    tests("ControlAPI", ["ControlAPI"]),
    tests("Control", ["Control", "ControlAPI", "Linux", logging, system, yams]),
    tests("Configuration", ["Configuration", "Control", "ControlAPI", yams]),
    tests(
      "swiveld",
      ["swiveld", "Configuration", "Control", "ControlAPI", "Linux", "Switch", logging, system]),
    tests(
      "swivel",
      [
        "swivel", "Control", "ControlAPI", "ControlClient", "Linux", argumentParser, logging,
        system,
      ]),
    tests(
      "swivel-bench",
      [
        "swivel-bench", "ControlAPI", "Linux", "Switch", "VirtioDriver", argumentParser, histogram,
        logging,
      ]),
    tests("EndToEnd", ["ControlAPI", "Hostile", "VirtioDriver", "Linux", system]),
  ]
)

// For the thread sanitizer in CI (scripts/test-sanitized): the tests with several threads and what they need, which is half
// of what there is to build.
if Context.environment["SWIVEL_THREADS"] != nil {
  let needed = ["Linux", "Dataplane", "Switch"]
  package.targets.removeAll { target in
    switch target.type {
    case .executable: true
    case .test: !needed.contains { target.name == "\($0)Tests" }
    default: ["Configuration", "Control", "ControlClient", "Hostile"].contains(target.name)
    }
  }
  package.products = []
}

// The fuzz targets, for scripts/fuzz alone: a library to be linked with libFuzzer, every module of ours instrumented
// and its inside visible.
if Context.environment["SWIVEL_FUZZ"] != nil {
  package.targets.removeAll { $0.type == .test || $0.type == .executable }
  package.targets.append(
    .target(
      name: "Fuzz",
      dependencies: [
        "CLinux", "Configuration", "Control", "ControlAPI", "Dataplane", "Linux", "Switch",
        "VhostUser", "VirtioDriver", logging,
      ],
      path: "Tests/Fuzz",
      exclude: [
        "make-seeds", "message", "session", "port", "split", "packed", "offloads", "configuration",
        "http",
      ],
      swiftSettings: Array(strict.dropFirst())))
  for target in package.targets where target.type == .regular {
    target.swiftSettings =
      (target.swiftSettings ?? []) + [
        .define("FUZZING"), .unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"]),
      ]
    target.cSettings =
      (target.cSettings ?? []) + [.unsafeFlags(["-fsanitize=fuzzer-no-link,address"])]
  }
  package.products = [.library(name: "Fuzz", type: .static, targets: ["Fuzz"])]
}
