import Foundation

/// Programs of the machine that tests make use of.
enum Command {
  /// Runs a program to its end; returns its status, or -1 where it could not be run.
  @discardableResult
  static func run(_ words: String...) -> Int32 { run(words) }

  @discardableResult
  static func run(_ words: [String]) -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return -1 }
    process.waitUntilExit()
    return process.terminationStatus
  }
}
