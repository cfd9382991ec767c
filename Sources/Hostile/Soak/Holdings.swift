internal import ControlAPI
internal import Foundation
internal import Glibc
internal import Linux
internal import VirtioDriver

/// What a daemon holds, against what it held the first time that the same guests were there.
final class Holdings {
  private let bed: Bed
  private var first: ProcessUsage?
  private(set) var usage: ProcessUsage?

  init(of bed: Bed) { self.bed = bed }

  /// Descriptors that come with the first time that so many threads signal at once, and stay (`Notifier`).
  private static let spareDescriptors = Notifier.most - 1

  /// Mappings that come and go without being a leak: each thread may have an allocator's arena of its own (two lines
  /// each, at most eight arenas for a CPU), and the stacks of threads that have ended are kept for the next, up to 40 MiB
  /// (five of them, two lines each).
  private static var spareMappings: Int { 2 * 8 * Affinity.cpuCount + 10 }

  /// Bytes that the allocator may keep in those arenas: most of what was in use when most ports were there, and a state of a
  /// thousand ports was written down.
  private static let spareMemory = 24 << 20

  /// Throws when it does not give up what it has beyond the first time.
  ///
  /// - Parameter isDisturbed: whether others than usual are there, so that there is nothing to compare.
  func inspect(isDisturbed: Bool) throws {
    var excess: [String] = []
    try bed.wait(for: "the daemon to give up \(excess.joined(separator: " and "))") {
      guard let usage = ProcessUsage(of: bed.pid) else { throw SoakError("swiveld is gone") }
      self.usage = usage
      guard let first, !isDisturbed else { return true }
      excess = usage.excess(
        over: first, spareDescriptors: Holdings.spareDescriptors,
        spareMappings: Holdings.spareMappings, spareMemory: Holdings.spareMemory)
      return excess.isEmpty
    }
    if !isDisturbed { first = first ?? usage }
  }
}

extension Bed {
  /// What came in, and the copies of it, went out or was dropped by name: of all ports there are or have been.
  func balance() throws -> Stats {
    var text = ""
    var stats = try stats()
    try wait(for: "the counts to balance: \(text)") {
      stats = try self.stats()
      let into = stats.received.frames + stats.received.replicas
      let out = stats.sent.frames + stats.received.dropped + stats.sent.dropped
      text = "\(into) frames and copies came in, \(out) went out or were dropped"
      return into == out
    }
    return stats
  }

  /// Whether a line is one that the switch may write at "warning" of ports that are not hostile.
  static func isOrdinary(warning line: Substring) -> Bool {
    let warnings = [
      "a second front-end tried to connect",
      // A machine that has much else to do.
      "made interrupting the driver slow",
      // It hung up while something was on its way to it.
      "the front-end can't be answered", "the front-end can't be asked", "Connection reset by peer",
      // The reply to a miss, after the device was reset.
      "IOTLB_MSG: VIRTIO_F_ACCESS_PLATFORM is not accepted",
    ]
    return warnings.contains { line.contains($0) }
  }

  /// SIGTERM: the daemon ends well and takes with it what it made.
  func leave(_ subject: Subject) throws {
    kill(subject.pid, SIGTERM)
    if !Deadline.wait(milliseconds: patience, { !subject.isAlive }) {
      throw SoakError("swiveld does not end on SIGTERM")
    }
    if subject.end != "exit status 0" {
      throw SoakError("swiveld ended on SIGTERM with \(subject.end)")
    }
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/run")) ?? []
    // What the next daemon goes on from is to be there.
    let left = all.filter { $0 != "control.state" }
    if !left.isEmpty { throw SoakError("\(left.sorted().joined(separator: ", ")) left") }
    if let namespace, namespace.has(namespace.device) {
      throw SoakError("the device \(namespace.device) is left")
    }
  }
}
