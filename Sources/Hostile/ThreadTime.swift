internal import Foundation
internal import Glibc
internal import Linux

/// Processor time of a process's threads, as /proc tells.
public enum ThreadTime {
  /// Seconds that the threads whose names begin with `prefix` have run, in user and kernel mode together; `nil` when
  /// the process is gone.
  ///
  /// utime and stime of /proc/PID/task/TID/stat come in hundredths, cut off: of a thousand threads that run for
  /// moments there would be nothing left. schedstat has nanoseconds; the other is for kernels without it.
  public static func seconds(of pid: Int32, named prefix: String) -> Double? {
    let folder = "/proc/\(pid)/task"
    guard let threads = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      return nil
    }
    var sum = 0.0
    for thread in threads {
      let path = "\(folder)/\(thread)"
      guard SmallFile.read("\(path)/comm")?.hasPrefix(prefix) ?? false else { continue }
      sum += precise(path) ?? rough(path) ?? 0
    }
    return sum
  }

  private static func precise(_ path: String) -> Double? {
    let fields = SmallFile.read("\(path)/schedstat")?.split(separator: " ")
    return fields?.first.flatMap { Double($0) }.map { $0 / 1e9 }
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
