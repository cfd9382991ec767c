internal import CLinux
internal import Glibc
internal import SystemPackage

/// Unix stream sockets that carry bytes and file descriptors. Every socket is non-blocking: wait for it
/// with `Poller`.
public enum UnixSocket {
  /// What one receive brought.
  public struct Received: Sendable {
    /// Bytes read; 0: the peer has closed.
    public var count: Int
    public var descriptors: [OwnedFD]
    /// The peer attached more descriptors than were taken.
    public var truncated: Bool
  }

  /// Connects to a listening socket. Fails with `.connectionRefused` when nobody listens and with
  /// `.resourceTemporarilyUnavailable` when the listener's backlog is full.
  ///
  /// The new socket has an abstract name that the kernel chose (unix(7), "Autobind feature"), by which the listener's
  /// side can tell it from one of a pair: see `isOfPair`.
  public static func connect(path: String) throws(SystemError) -> OwnedFD {
    OwnedFD(
      taking: try SystemError.check(unsafe clx_unix_connect(path), "connect to \(path)"))
  }

  public static func pair() throws(SystemError) -> (OwnedFD, OwnedFD) {
    unsafe try makePair(clx_unix_pair)
  }

  /// Two ends that give and take a datagram a call.
  public static func datagramPair() throws(SystemError) -> (OwnedFD, OwnedFD) {
    unsafe try makePair(clx_unix_datagram_pair)
  }

  private static func makePair(
    _ make: (UnsafeMutablePointer<CInt>?) -> CInt
  ) throws(SystemError) -> (OwnedFD, OwnedFD) {
    var both: (CInt, CInt) = (-1, -1)
    // SAFETY: a tuple of two CInt is laid out as the array of two that the call fills.
    let result = unsafe withUnsafeMutableBytes(of: &both) {
      unsafe make($0.baseAddress!.assumingMemoryBound(to: CInt.self))
    }
    try SystemError.check(result, "make a socket pair")
    return (OwnedFD(taking: both.0), OwnedFD(taking: both.1))
  }

  /// Whether a socket is a connected Unix socket as socketpair(2) makes them, whose peer has no name. It is none of a
  /// connection that this process has accepted or made: of these the peer has the listener's name, or the one that
  /// `connect` gave it, and keeps it.
  public static func isOfPair(_ socket: OwnedFD) -> Bool { clx_unix_is_of_pair(socket.raw) == 1 }

  /// The next connection, or `nil` when none is waiting.
  public static func accept(_ listener: OwnedFD) throws(SystemError) -> OwnedFD? {
    let result = clx_accept(listener.raw)
    if result == -EAGAIN || result == -EINTR || result == -ECONNABORTED { return nil }
    return OwnedFD(taking: try SystemError.check(result, "accept a connection"))
  }

  /// Reads what is there, at most `buffer.count` bytes; `nil` when nothing is there yet.
  public static func receive(
    _ socket: OwnedFD, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) -> Received? {
    var numbers = [CInt](repeating: -1, count: Int(CLX_MAX_FDS))
    var count: CInt = 0
    var truncated: CInt = 0
    // SAFETY: the buffer and the array bound what the call writes.
    let result = unsafe clx_recv(
      socket.raw, buffer.baseAddress, buffer.count, &numbers, &count, &truncated)
    let descriptors = numbers.prefix(Int(count)).map { OwnedFD(taking: $0) }
    if result == -EAGAIN || result == -EINTR { return nil }
    try SystemError.check(result, "receive")
    return Received(count: result, descriptors: descriptors, truncated: truncated != 0)
  }

  /// Writes what fits and returns its length, 0 when nothing fits now. The descriptors go with the
  /// first byte.
  public static func send(
    _ socket: OwnedFD, _ bytes: UnsafeRawBufferPointer, descriptors: [OwnedFD] = []
  ) throws(SystemError) -> Int {
    let numbers = descriptors.map(\.raw)
    // SAFETY: reads the buffer and the array during the call only.
    let result = unsafe clx_send(
      socket.raw, bytes.baseAddress, bytes.count, numbers, CInt(numbers.count))
    if result == -EAGAIN || result == -EINTR { return 0 }
    try SystemError.check(result, "send")
    return result
  }

  /// Sends one datagram whole. Throws `.resourceTemporarilyUnavailable` when as many as may be wait for the receiver.
  public static func send(_ socket: OwnedFD, datagram: [UInt8]) throws(SystemError) {
    // SAFETY: reads the array during the call only.
    let result = unsafe clx_send(socket.raw, datagram, datagram.count, nil, 0)
    try SystemError.check(result, "send")
  }

  /// Has nothing more come to a socket that is only written to, and throws away what has, descriptors too: those would
  /// stay open as long as it.
  public static func deafen(_ socket: OwnedFD) {
    _ = shutdown(socket.raw, CInt(SHUT_RD))
    var bytes = [UInt8](repeating: 0, count: 4096)
    // All there is has come before, so that there is an end to it. The descriptors are closed as they come.
    while true {
      // SAFETY: receives into the array's own storage, for the length of the call.
      let received = try? unsafe bytes.withUnsafeMutableBytes {
        try unsafe receive(socket, into: $0)
      }
      guard let received, received.count > 0 else { return }
    }
  }

  /// Process, user and group at the other end.
  public static func peer(_ socket: OwnedFD) -> (pid: Int, uid: UInt32, gid: UInt32)? {
    var pid: CInt = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    // SAFETY: writes the three locals.
    guard unsafe clx_peer(socket.raw, &pid, &uid, &gid) == 0 else { return nil }
    return (Int(pid), uid, gid)
  }
}
