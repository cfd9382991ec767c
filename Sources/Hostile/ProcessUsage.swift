internal import Foundation
internal import Linux

/// What a process holds that it could leak, as /proc tells.
public struct ProcessUsage: Sendable, Equatable {
  public var descriptors: Int
  public var threads: Int
  public var mappings: Int
  /// Bytes of memory that are resident.
  public var memory: Int

  /// `nil` when the process is gone, or not ours to look at.
  public init?(of pid: Int32) {
    let files = FileManager.default
    guard let descriptors = try? files.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count,
      let threads = try? files.contentsOfDirectory(atPath: "/proc/\(pid)/task").count,
      let maps = try? String(contentsOfFile: "/proc/\(pid)/maps", encoding: .utf8),
      let status = SmallFile.read("/proc/\(pid)/status")
    else { return nil }
    self.descriptors = descriptors
    self.threads = threads
    mappings = maps.split(separator: "\n").count
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
    memory = 1024 * (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0)
  }

  /// What the allocator may keep for itself: mappings, and bytes.
  static let spareMappings = 4
  static let spareMemory = 8 << 20

  /// What this has beyond `before`, in words; empty: nothing worth mentioning.
  func excess(
    over before: ProcessUsage, spareDescriptors: Int = 0,
    spareMappings: Int = ProcessUsage.spareMappings, spareMemory: Int = ProcessUsage.spareMemory
  ) -> [String] {
    var found: [String] = []
    func compare(_ after: Int, _ before: Int, _ what: String) {
      if after > before { found.append("\(after - before) \(what)") }
    }
    compare(descriptors, before.descriptors + spareDescriptors, "descriptors")
    compare(threads, before.threads, "threads")
    compare(mappings, before.mappings + spareMappings, "mappings")
    compare(memory >> 20, (before.memory + spareMemory) >> 20, "MiB")
    return found
  }
}
