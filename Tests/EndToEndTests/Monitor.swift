import Foundation
import Glibc

/// QEMU's monitor: JSON over a Unix socket (QMP).
final class Monitor {
  private let socket: Int32
  private var unread = Data()

  init(_ path: String) throws {
    socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(107)) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw Failure("\(path): errno \(errno)") }
    var patience = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(
      socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    _ = try line()
    try ask("qmp_capabilities")
  }

  deinit { close(socket) }

  /// Has a command done, and returns what QEMU says.
  @discardableResult
  func ask(_ command: String, _ arguments: [String: Any] = [:]) throws -> [String: Any] {
    var bytes = try JSONSerialization.data(
      withJSONObject: ["execute": command, "arguments": arguments])
    bytes.append(10)
    let count = bytes.withUnsafeBytes { write(socket, $0.baseAddress, $0.count) }
    guard count == bytes.count else { throw Failure("QMP \(command): errno \(errno)") }
    while true {
      let answer = try line()
      if let error = answer["error"] { throw Failure("QMP \(command): \(error)") }
      if let result = answer["return"] { return result as? [String: Any] ?? [:] }
    }
  }

  /// Moves the guest, and returns how long it stood still, in milliseconds, by what QEMU says.
  ///
  /// - Parameter meanwhile: what is to be done when all of its memory has been copied once and it still runs; some
  ///   mebibytes of it must change all the time then, or QEMU has nothing left to wait for.
  func migrate(to place: String, meanwhile: (() throws -> Void)? = nil) throws -> Int {
    if meanwhile != nil {
      // So slow that a guest on a busy machine writes something in each round, and QEMU goes on.
      try ask("migrate-set-parameters", ["downtime-limit": 1, "max-bandwidth": 32 << 20])
    }
    try ask("migrate", ["uri": place])
    if let meanwhile {
      try wait(upTo: 60, for: "all memory to be copied once") {
        let said = try migration()
        guard said["status"] as? String != "completed" else { throw Failure("it moved: \(said)") }
        let ram = said["ram"] as? [String: Any]
        return (ram?["dirty-sync-count"] as? NSNumber)?.intValue ?? 0 > 2
      }
      try meanwhile()
      guard try migration()["status"] as? String == "active" else {
        throw Failure("the guest had moved before all was done")
      }
      try ask("migrate-set-parameters", ["downtime-limit": 300, "max-bandwidth": 128 << 20])
    }
    var last: [String: Any] = [:]
    try wait(upTo: 90, for: "a migration to end: \(last)") {
      last = try migration()
      return last["status"] as? String == "completed"
    }
    return (last["downtime"] as? NSNumber)?.intValue ?? -1
  }

  private func migration() throws -> [String: Any] {
    let said = try ask("query-migrate")
    if ["failed", "cancelled"].contains(said["status"] as? String) {
      throw Failure("migration: \(said)")
    }
    return said
  }

  private func line() throws -> [String: Any] {
    while true {
      if let end = unread.firstIndex(of: 10) {
        let line = unread[unread.startIndex..<end]
        unread = Data(unread[unread.index(after: end)...])
        return try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] ?? [:]
      }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = read(socket, &buffer, buffer.count)
      guard count > 0 else { throw Failure("QEMU's monitor says nothing: errno \(errno)") }
      unread += buffer.prefix(count)
    }
  }
}
