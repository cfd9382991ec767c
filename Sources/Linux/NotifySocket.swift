internal import Glibc
internal import SystemPackage

/// Datagrams to a Unix socket that somebody else listens on.
public enum NotifySocket {
  /// Sends `message` as one datagram to `address`: an absolute path, or `@` and an abstract name. Never
  /// waits: fails with `.resourceTemporarilyUnavailable` when the receiver's queue is full.
  public static func send(_ message: String, to address: String) throws(SystemError) {
    let operation = "notify \(address)"
    var target = sockaddr_un()
    target.sun_family = sa_family_t(AF_UNIX)
    var name = Array(address.utf8)
    // The kernel tells an abstract name by its first byte, a zero.
    if name.first == UInt8(ascii: "@") { name[0] = 0 }
    let offset = MemoryLayout.offset(of: \sockaddr_un.sun_path) ?? 2
    let room = MemoryLayout<sockaddr_un>.size - offset
    if name.isEmpty || name.count >= room {
      throw SystemError(operation, errno: .fileNameTooLong)
    }
    // SAFETY: the name was checked to fit behind the offset.
    unsafe withUnsafeMutableBytes(of: &target) {
      unsafe UnsafeMutableRawBufferPointer(rebasing: $0[offset...]).copyBytes(from: name)
    }
    // An abstract name ends where its length says, a path at a zero byte, which the length includes.
    let length = socklen_t(offset + name.count + (name[0] == 0 ? 0 : 1))
    let type = CInt(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let socket = OwnedFD(
      taking: try check(Glibc.socket(AF_UNIX, type, 0), operation))
    let bytes = Array(message.utf8)
    // SAFETY: reads the address and the array during the call only.
    let sent = unsafe withUnsafePointer(to: &target) {
      unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe sendto(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL), $0, length)
      }
    }
    try check(CInt(clamping: sent), operation)
  }

  @discardableResult
  private static func check(_ result: CInt, _ operation: String) throws(SystemError) -> CInt {
    if result < 0 { throw SystemError(operation, errno: .init(rawValue: errno)) }
    return result
  }
}
