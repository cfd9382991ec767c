internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import Linux
internal import Synchronization

/// The signal that asked for the end. A handler's: signals that are blocked would be so in what is started, too.
private let interruption = Atomic<Int>(0)

/// What takes its time with a swiveld of its own: it has a folder, tells how it goes, can be interrupted, and ends with
/// a line that says whether all went well.
enum LongRun {
  /// How to end it before its time, for a reason; and to run it, which returns what went wrong.
  typealias Work = (interrupt: @Sendable (String) -> Void, run: () throws -> [String])

  /// - Parameters:
  ///   - name: of the command.
  ///   - seed: told when it fails.
  ///   - prepare: is given an empty folder, and how to say a line.
  static func run(
    _ name: String, seed: UInt64,
    _ prepare: (_ folder: String, _ say: @escaping @Sendable (String) -> Void) throws -> Work
  ) throws {
    StandardStreams.fill()
    for number in [SIGINT, SIGTERM, SIGHUP] {
      // It stores a word and does nothing else, as befits a handler.
      signal(number) { interruption.store(Int($0), ordering: .relaxed) }
    }
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("swivel-\(name)-\(getpid())").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let work = try prepare(folder, say)
    let interrupt = work.interrupt
    // Interrupted, it takes away what it has made all the same.
    _ = try Linux.Thread(name: "signals") {
      while interruption.load(ordering: .relaxed) == 0 {
        _ = try? Poller.wait([], milliseconds: 100)
      }
      interrupt("signal \(interruption.load(ordering: .relaxed))")
    }
    let problems = try work.run()
    if problems.isEmpty { return say("\(name) passed: everything is accounted for") }
    for problem in problems { say(problem) }
    say("\(name) failed: \(problems[0]) (seed \(seed))")
    throw ExitCode(1)
  }

  /// At once, whatever standard output is.
  @Sendable private static func say(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
  }
}
