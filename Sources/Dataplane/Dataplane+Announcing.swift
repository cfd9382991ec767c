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

  /// The worker that polls the queue of a port's announcements, if there is one, and the queue's index.
  public func announcer(port number: Int) -> (queue: Int, worker: Int)? {
    state.withLock { state in
      guard let port = port(number, state), let queue = port.queues[2 * port.pairs + 1] else {
        return nil
      }
      return (2 * port.pairs + 1, queue.worker)
    }
  }

  /// Has another worker poll that queue. What is under way waits meanwhile.
  public func moveAnnouncer(port number: Int, to worker: Int) throws {
    let known = state.withLock { state in
      port(number, state).flatMap { port in port.exit.map { (2 * port.pairs + 1, $0) } }
    }
    guard let (index, exit) = known else { return }
    _ = stopQueues([index], of: number)
    do {
      try startAnnouncer(index, exit, of: number, worker: worker)
    } catch {
      // The next announcement begins anew.
      state.withLock { state in
        port(number, state)?.entrance = nil
        port(number, state)?.exit = nil
      }
      throw error
    }
  }

  private func startAnnouncer(
    _ index: Int, _ exit: OwnedFD, of number: Int, worker: Int
  ) throws {
    let queue = QueueStart(
      index, .datagrams(exit, headerSize: Dataplane.netHeaderSize), worker: worker)
    for case let error? in startQueues([queue], of: number) { throw error }
  }

  private func entrance(of number: Int) throws -> OwnedFD {
    let known = state.withLock { state in
      let worker = state.available.first ?? 0
      return port(number, state).map {
        (pairs: $0.pairs, entrance: $0.entrance, worker: worker)
      }
    }
    guard let known else { throw DataplaneError("there is no port \(number)") }
    if let entrance = known.entrance { return entrance }
    let (entrance, exit) = try UnixSocket.datagramPair()
    try startAnnouncer(2 * known.pairs + 1, exit, of: number, worker: known.worker)
    state.withLock { state in
      port(number, state)?.entrance = entrance
      port(number, state)?.exit = exit
    }
    return entrance
  }
}
