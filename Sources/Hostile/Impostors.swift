internal import CLinux
internal import Glibc
internal import Linux
internal import SystemPackage
internal import VirtioDriver

/// Descriptors that are not what they are passed for.
enum Impostors {
  /// Whatever is no eventfd and no memory: a file, a directory, both ends of a pipe, the end of one whose reader is
  /// gone, a socket, devices.
  static func all() throws(SystemError) -> [OwnedFD] {
    let (reader, writer) = try pipe()
    return [
      try file(4096), try opened("/", O_RDONLY | O_DIRECTORY), reader, writer, try pipe().writer,
      try UnixSocket.pair().0, try opened("/dev/null", O_RDWR), try opened("/dev/zero", O_RDWR),
      try opened("/proc/self/maps", O_RDONLY),
    ]
  }

  private static func pipe() throws(SystemError) -> (reader: OwnedFD, writer: OwnedFD) {
    var ends: [CInt] = [-1, -1]
    // SAFETY: fills the array's two elements.
    try check(unsafe Glibc.pipe(&ends), "make a pipe")
    return (OwnedFD(taking: ends[0]), OwnedFD(taking: ends[1]))
  }

  /// `size` bytes of memory, all zero.
  static func file(_ size: Int) throws(SystemError) -> OwnedFD {
    // SAFETY: the name is read during the call only.
    let file = OwnedFD(
      taking: try SystemError.check(unsafe clx_memfd("hostile", 0), "make a file"))
    try check(ftruncate(file.raw, size), "size a file")
    return file
  }

  /// The same memory, which can't be mapped to be written.
  static func readOnly(_ file: OwnedFD) throws(SystemError) -> OwnedFD {
    try opened("/proc/self/fd/\(file.raw)", O_RDONLY)
  }

  private static func opened(_ path: String, _ flags: CInt) throws(SystemError) -> OwnedFD {
    // SAFETY: the path is read during the call only.
    OwnedFD(taking: try check(unsafe open(path, flags | O_CLOEXEC), "open \(path)"))
  }

  @discardableResult
  private static func check(_ result: CInt, _ operation: String) throws(SystemError) -> CInt {
    if result < 0 { throw SystemError(operation, errno: Errno(rawValue: errno)) }
    return result
  }
}

extension Site {
  /// `size` bytes of memory, each of them `byte`.
  func file(_ size: Int, filled byte: UInt8 = 0) throws(SystemError) -> OwnedFD {
    let file = try Impostors.file(size)
    if byte != 0 {
      let bytes = [UInt8](repeating: byte, count: size)
      // SAFETY: the array is read during the call only.
      _ = unsafe pwrite(file.raw, bytes, size, 0)
    }
    return file
  }

  /// Says that nothing more will come, and stays to listen.
  func finishSending(_ frontEnd: FrontEnd) {
    if let socket = frontEnd.socket { _ = shutdown(socket.raw, CInt(SHUT_WR)) }
  }
}

extension OwnedFD {
  /// Leaves a socket room for as little as there can be.
  func narrow() {
    var bytes: CInt = 1
    // SAFETY: reads the local during the call only.
    _ = unsafe setsockopt(raw, SOL_SOCKET, SO_SNDBUF, &bytes, socklen_t(MemoryLayout<CInt>.size))
  }
}

extension EventFD {
  /// Leaves no room for one more, and has whoever adds one wait for ever.
  func clog() {
    var most: UInt64 = 0xFFFF_FFFF_FFFF_FFFE
    // SAFETY: reads the eight bytes of the local.
    _ = unsafe write(descriptor.raw, &most, 8)
    _ = fcntl(descriptor.raw, F_SETFL, 0)
  }

  /// Makes room again, so that whoever does wait goes on.
  func unclog() {
    _ = fcntl(descriptor.raw, F_SETFL, O_NONBLOCK)
    drain()
  }
}
