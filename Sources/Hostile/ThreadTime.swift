internal import Foundation
internal import Glibc
internal import Linux

/// Processor time of a process's threads, as /proc tells.
public struct ThreadTime: Sendable, Equatable {
  /// Seconds that they have run, in user and kernel mode together.
  public var running = 0.0
  /// Seconds that they could have run and had no processor.
  public var waiting = 0.0

  /// That of the threads whose names begin with `prefix`, together; `nil` when the process is gone.
  ///
  /// utime and stime of /proc/PID/task/TID/stat come in hundredths, cut off: of a thousand threads that run for
  /// moments there would be nothing left. schedstat has nanoseconds; the other is for kernels without it.
  public init?(of pid: Int32, named prefix: String) {
    guard let threads = ThreadTime.threads(of: pid, named: prefix) else { return nil }
    for thread in threads {
      let path = "/proc/\(pid)/task/\(thread)"
      let fields = SmallFile.read("\(path)/schedstat")?.split(separator: " ").compactMap {
        Double($0)
      }
      if let fields, fields.count >= 2 {
        running += fields[0] / 1e9
        waiting += fields[1] / 1e9
      } else {
        running += ThreadTime.rough(path) ?? 0
      }
    }
  }

  static func - (after: ThreadTime, before: ThreadTime) -> ThreadTime {
    var difference = after
    difference.running -= before.running
    difference.waiting -= before.waiting
    return difference
  }

  /// The threads' numbers; `nil` when the process is gone.
  static func threads(of pid: Int32, named prefix: String) -> [Int32]? {
    let folder = "/proc/\(pid)/task"
    return try? FileManager.default.contentsOfDirectory(atPath: folder).compactMap { thread in
      guard SmallFile.read("\(folder)/\(thread)/comm")?.hasPrefix(prefix) ?? false else {
        return nil
      }
      return Int32(thread)
    }
  }

  private static func rough(_ path: String) -> Double? {
    // The name, in parentheses, may have anything in it; fields 14 and 15 are counted from behind it.
    guard let text = SmallFile.read("\(path)/stat"), let end = text.lastIndex(of: ")") else {
      return nil
    }
    let fields = text[end...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      return nil
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}
