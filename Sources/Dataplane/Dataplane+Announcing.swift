internal import Glibc
internal import Linux

/// Frames of control's own, which workers switch as they do a port's.
///
/// They are put into a pair of sockets that gives and takes a frame a call, as a TAP does, and so is read as one: by a queue
/// of the port that they are to come from, behind those of its guest. It is made for the first of them, and silent otherwise.
extension Dataplane {
  /// Bytes of the virtio-net header of such a frame, all of them 0: it asks for nothing.
  private static let netHeaderSize = 12

  /// Has a frame, without a virtio-net header, be switched as if it had come from a port: learned from, judged, and
  /// delivered to others. Returns before that has happened.
  ///
  /// Throws when there is no such port, no descriptor for a way in, or there are more of such frames under way than may be.
  public func announce(_ frame: [UInt8], from number: Int) throws {
    let bytes = [UInt8](repeating: 0, count: Dataplane.netHeaderSize) + frame
    let entrance = try entrance(of: number)
    do throws(SystemError) {
      try UnixSocket.send(entrance, datagram: bytes)
    } catch {
      throw DataplaneError("the frame can't be announced: \(error)")
    }
  }

  /// What was announced from a port.
  public func announcements(port number: Int) -> CounterSample {
    state.withLock { state in
      guard let port = port(number, state) else { return CounterSample() }
      return port.state.queue(2 * port.pairs + 1).counters.sample
    }
  }

  private func entrance(of number: Int) throws -> OwnedFD {
    let known = state.withLock { state in
      port(number, state).map { (pairs: $0.pairs, entrance: $0.entrance) }
    }
    guard let known else { throw DataplaneError("there is no port \(number)") }
    if let entrance = known.entrance { return entrance }
    let (entrance, exit) = try UnixSocket.datagramPair()
    let queue = QueueStart(
      2 * known.pairs + 1,
      .datagrams(exit, headerSize: Dataplane.netHeaderSize))
    for case let error? in startQueues([queue], of: number) { throw error }
    state.withLock { state in port(number, state)?.entrance = entrance }
    return entrance
  }
}
