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
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
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
    .library(name: "VirtioDriver", targets: ["VirtioDriver"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // floor 0
    .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
    .systemLibrary(name: "CNuma", providers: [.apt(["libnuma-dev"])]),
    // floor 1
    library("Linux", ["CLinux", "CNuma", system]),
    library("ControlAPI", []),
    // floor 2
    library("Dataplane", ["CLinux", "Linux"]),
    library("VhostUser", ["CLinux", "Linux", system]),
    // floor 3
    library("Switch", ["ControlAPI", "Dataplane", "Linux", "VhostUser", logging, system]),
    // floor 4
    library("Control", ["ControlAPI", "Linux", logging, system]),
    // floor 5
    program(
      "swiveld",
      ["Control", "ControlAPI", "Linux", "Switch", argumentParser, logging, system, yams]),
    program("swivel", ["ControlAPI", "Linux", argumentParser, system]),
    // tools: the guest's side
    library("VirtioDriver", ["CLinux", "Linux", system]),

    tests("Linux", ["Linux", "CLinux", system]),
    tests("Dataplane", ["Dataplane", "CLinux", "Linux"]),
    tests("VhostUser", ["VhostUser", "Linux", system]),
    tests("VirtioDriver", ["VirtioDriver", "Linux", system]),
    tests(
      "Switch", ["Switch", "ControlAPI", "Dataplane", "Linux", "VirtioDriver", logging, system]),
    tests("ControlAPI", ["ControlAPI"]),
    tests("Control", ["Control", "ControlAPI", "Linux", logging, system, yams]),
    tests("swiveld", ["swiveld", "Control", "ControlAPI", "Linux", "Switch", system, yams]),
    tests("swivel", ["swivel", "Control", "ControlAPI", "Linux", argumentParser, logging, system]),
    tests("EndToEnd", ["ControlAPI", "VirtioDriver", "Linux", system]),
  ]
)
