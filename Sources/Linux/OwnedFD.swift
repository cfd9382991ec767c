internal import CLinux
internal import Glibc
internal import SystemPackage

/// A file descriptor that is closed when the last reference to it goes.
public final class OwnedFD: Sendable {
  /// The descriptor's number; valid for as long as this object lives.
  public let raw: CInt

  /// Takes ownership of `raw`.
  public init(taking raw: CInt) {
    self.raw = raw
  }

  deinit {
    close(raw)
  }

  /// A second descriptor of the same open file.
  public func duplicate() throws(SystemError) -> OwnedFD {
    let copy = fcntl(raw, F_DUPFD_CLOEXEC, 3)
    if copy < 0 { throw SystemError("duplicate a descriptor", errno: .init(rawValue: errno)) }
    return OwnedFD(taking: copy)
  }

  /// Length in bytes and page size of the file, and whether it is a regular one.
  public func fileSize() throws(SystemError) -> (length: UInt64, pageSize: UInt64, isRegular: Bool)
  {
    var length: UInt64 = 0
    var pageSize: UInt64 = 0
    var regular: CInt = 0
    // SAFETY: the call writes the three locals and keeps none of their addresses.
    try SystemError.check(unsafe clx_file_size(raw, &length, &pageSize, &regular), "fstat")
    return (length, pageSize, regular != 0)
  }

  /// Bytes that the file system keeps for the file: those of its holes are not among them. 0 when it won't tell.
  public var allocatedBytes: Int { max(0, Int(clx_file_allocated(raw))) }

  /// Whether the file is an eventfd.
  public var isEventFD: Bool { clx_is_eventfd(raw) == 1 }

  /// Whether the file is a stream socket.
  public var isStreamSocket: Bool {
    var type: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    // SAFETY: the call writes the two locals and keeps none of their addresses.
    return unsafe getsockopt(raw, SOL_SOCKET, SO_TYPE, &type, &length) == 0
      && type == CInt(SOCK_STREAM.rawValue)
  }

  public func setNonblocking() throws(SystemError) {
    try SystemError.check(clx_set_nonblocking(raw), "make a descriptor non-blocking")
  }
}
