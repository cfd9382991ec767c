import Foundation
import Testing

/// Real guests, real namespaces, the real daemon. One test at a time: they share names, ports and cores.
@Suite(.serialized) enum EndToEnd {}

/// What went wrong, for a person.
struct Failure: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) {
    self.description = description
  }
}

/// What this machine has; a test that needs more is skipped by that name.
enum Machine {
  static let hasRoot = geteuid() == 0
  static let hasTAP = hasRoot && access("/dev/net/tun", R_OK | W_OK) == 0 && finds("ip")
  static let hasQEMU = finds("qemu-system-x86_64") && access("/bin/busybox", X_OK) == 0
  static let hasDPDK =
    hasRoot && finds("dpdk-testpmd") && ProcessInfo.processInfo.processorCount > 1

  /// What DPDK's vectorized packed ring needs.
  static let hasVectors =
    (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.contains("avx512vl") == true

  private static func finds(_ program: String) -> Bool {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
      access("\($0)/\(program)", X_OK) == 0
    }
  }
}

/// Where things lie.
enum Place {
  static let repository = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func script(_ name: String) -> String {
    repository.appending(path: "scripts/\(name)").path
  }

  /// `swiveld` or `swivel`: of `$SWIVEL_PROGRAMS` (scripts/test: the release build), else beside the tests.
  static func program(_ name: String) throws -> String {
    let beside = CommandLine.arguments.compactMap { argument -> URL? in
      guard let end = argument.range(of: ".xctest") else { return nil }
      return URL(filePath: String(argument[..<end.lowerBound])).deletingLastPathComponent()
    }
    let given = ProcessInfo.processInfo.environment["SWIVEL_PROGRAMS"].map { URL(filePath: $0) }
    let folders = [given].compactMap(\.self) + beside + [repository.appending(path: ".build/debug")]
    for folder in folders {
      let path = folder.appending(path: name).path
      if access(path, X_OK) == 0 { return path }
    }
    throw Failure("\(name) is not built: looked in \(folders.map(\.path))")
  }
}

/// A folder of its own for a test, short enough for the path of a socket.
final class Scratch {
  let path: String

  init() throws {
    var template = Array("/tmp/swivel-test.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Failure("mkdtemp: errno \(errno)") }
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }

  func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Polls until `condition` holds; throws when `seconds` have passed.
func wait(
  upTo seconds: Double, for what: @autoclosure () -> String, until condition: () throws -> Bool
) throws {
  let end = Date(timeIntervalSinceNow: seconds)
  while try !condition() {
    guard Date() < end else { throw Failure("waited \(seconds) s in vain for \(what())") }
    Thread.sleep(forTimeInterval: 0.05)
  }
}
