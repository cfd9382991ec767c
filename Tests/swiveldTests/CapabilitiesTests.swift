import Foundation
import Testing

@testable import swiveld

/// The conventions for back-end programs (vhost-user.rst, "Backend program conventions").
@Suite struct CapabilitiesTests {
  @Test(
    "--print-capabilities, whatever else is asked for, is answered, and nothing is started (E101)",
    arguments: [
      ["--print-capabilities"], ["--print-capabilities", "--socket-path=/nonexistent/x.sock"],
      ["--config", "/nonexistent.yaml", "--print-capabilities"],
      ["--fd", "3", "--print-capabilities"],
    ])
  func capabilities(_ arguments: [String]) throws {
    let process = Process()
    // The daemon is beside the tests that were built with it.
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().appending(path: "swiveld")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let printed = try #require(try output.fileHandleForReading.readToEnd())
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let object = try JSONSerialization.jsonObject(with: printed) as? [String: String]
    #expect(object == ["type": "net"])
  }
}
