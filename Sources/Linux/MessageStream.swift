internal import Glibc
internal import SystemPackage

/// Whole messages with any number of descriptors, over a Unix stream socket to another process of ours.
///
/// A message is a head of 16 bytes (a mark, its length, the number of its descriptors; the numbers in 32 bits of this
/// machine's order), its bytes, and then a byte for each 32 descriptors, which come with it: the kernel takes no more than
/// 253 at a time.
public struct MessageStream: Sendable {
  private static let mark: UInt64 = 0x6d5f_6c65_7669_7773
  private static let headLength = 16
  private static let batch = 32
  /// What a peer may ask to be kept.
  static let longest = 64 << 20
  static let mostDescriptors = 1 << 18

  public let socket: OwnedFD

  /// - Parameter socket: a non-blocking stream socket, from `UnixSocket`.
  public init(_ socket: OwnedFD) { self.socket = socket }

  /// Sends a message. Throws `.timedOut` when the peer has not taken it before `deadline`.
  public func send(
    _ bytes: [UInt8], _ descriptors: [OwnedFD], until deadline: ContinuousClock.Instant
  ) throws(SystemError) {
    guard bytes.count <= MessageStream.longest,
      descriptors.count <= MessageStream.mostDescriptors
    else { throw SystemError("send a message of \(bytes.count) bytes", errno: .messageTooLong) }
    var head: [UInt8] = []
    for byte in 0..<8 { head.append(UInt8(truncatingIfNeeded: MessageStream.mark >> (8 * byte))) }
    for number in [bytes.count, descriptors.count] {
      for byte in 0..<4 { head.append(UInt8(truncatingIfNeeded: number >> (8 * byte))) }
    }
    try put(head + bytes, [], until: deadline)
    var first = 0
    while first < descriptors.count {
      let next = min(first + MessageStream.batch, descriptors.count)
      try put([1], Array(descriptors[first..<next]), until: deadline)
      first = next
    }
  }

  private func put(
    _ bytes: [UInt8], _ descriptors: [OwnedFD], until deadline: ContinuousClock.Instant
  ) throws(SystemError) {
    var sent = 0
    while sent < bytes.count {
      // SAFETY: reads the array's own storage, for the length of the call.
      sent += try unsafe bytes[sent...].withUnsafeBufferPointer { storage throws(SystemError) in
        try unsafe UnixSocket.send(
          socket, UnsafeRawBufferPointer(storage), descriptors: descriptors)
      }
      if sent < bytes.count { try wait(.write, until: deadline) }
    }
  }

  /// The next message. Throws `.timedOut` when it is not there before `deadline`, `.connectionReset` when the peer has gone,
  /// and `.badMessage` for what is no message.
  public func receive(
    until deadline: ContinuousClock.Instant
  ) throws(SystemError) -> (bytes: [UInt8], descriptors: [OwnedFD]) {
    let head = try take(MessageStream.headLength, until: deadline)
    func number(_ range: Range<Int>) -> UInt64 {
      head.bytes[range].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    let (length, count) = (Int(number(8..<12)), Int(number(12..<16)))
    guard head.descriptors.isEmpty, number(0..<8) == MessageStream.mark,
      length <= MessageStream.longest, count <= MessageStream.mostDescriptors
    else { throw SystemError("receive a message", errno: .badMessage) }
    let body = try take(length, until: deadline)
    var descriptors: [OwnedFD] = []
    while descriptors.count < count {
      let wanted = min(MessageStream.batch, count - descriptors.count)
      let part = try take(1, until: deadline)
      guard part.descriptors.count == wanted else {
        throw SystemError(
          "receive \(wanted) descriptors: \(part.descriptors.count) came", errno: .badMessage)
      }
      descriptors += part.descriptors
    }
    guard body.descriptors.isEmpty else {
      throw SystemError("receive a message", errno: .badMessage)
    }
    return (body.bytes, descriptors)
  }

  private func take(
    _ count: Int, until deadline: ContinuousClock.Instant
  ) throws(SystemError) -> UnixSocket.Whole {
    var whole = UnixSocket.Whole()
    var buffer = [UInt8](repeating: 0, count: min(count, 1 << 20))
    while whole.bytes.count < count {
      let wanted = min(buffer.count, count - whole.bytes.count)
      // SAFETY: receives into the array's own storage, no more than it has room for.
      let received = try unsafe buffer.withUnsafeMutableBufferPointer {
        storage throws(SystemError) in
        try unsafe UnixSocket.receive(
          socket,
          into: UnsafeMutableRawBufferPointer(start: storage.baseAddress, count: wanted))
      }
      guard let received else {
        try wait(.read, until: deadline)
        continue
      }
      whole.descriptors += received.descriptors
      if received.count == 0 { throw SystemError("receive", errno: .connectionReset) }
      // What did not come is another process's limit of open files, most likely this one's.
      if received.truncated { throw SystemError("receive descriptors", errno: .tooManyOpenFiles) }
      whole.bytes += buffer.prefix(received.count)
    }
    return whole
  }

  private func wait(
    _ interest: Poller.Interest, until deadline: ContinuousClock.Instant
  ) throws(SystemError) {
    let left = ContinuousClock.now.duration(to: deadline)
    if left <= .zero { throw SystemError("wait for the other daemon", errno: .timedOut) }
    _ = try Poller.wait(
      [(socket.raw, interest)], milliseconds: Int(left / .milliseconds(1)) + 1)
  }
}

extension UnixSocket {
  /// So many bytes as were wanted, and what came with them.
  struct Whole {
    var bytes: [UInt8] = []
    var descriptors: [OwnedFD] = []
  }
}
