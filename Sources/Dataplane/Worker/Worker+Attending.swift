internal import CLinux
internal import Synchronization

/// Coming back to receiveqs for which frames wait.
///
/// SAFETY: an output is what `Ports` has just given.
extension Worker {
  /// Ports that are looked at in a turn.
  private static let attended = 4
  /// A look that brings nothing is followed by so many times its length for others: a front-end that lets its frames wait
  /// takes a ninth of a worker's time at most, and all who do so together do.
  private static let respite: UInt64 = 8

  /// Delivers what can be delivered of what waits, and drops what has waited for too long. Returns the frames delivered.
  @inline(never)
  mutating func attend() -> Int {
    let begin = clx_ticks()
    if Int64(bitPattern: begin &- waiting.again) < 0 { return 0 }
    var frames = 0
    for _ in 0..<Worker.attended where waiting.count > 0 {
      let place = waiting.next()
      let (delivered, isLeft) = attend(waiting.port(place))
      frames &+= delivered
      if !isLeft { waiting.remove(place, state) }
    }
    if frames == 0 {
      // Buffers may have gone back empty, and what is named in this turn is used in no other.
      if unannouncedCount > 0 || interrupts.count > 0 { tellDrivers() }
      let end = clx_ticks()
      waiting.again = end &+ (end &- begin) &* Worker.respite
    }
    return frames
  }

  /// Returns the frames delivered to a port, and whether others still wait.
  private mutating func attend(_ port: Int) -> (frames: Int, isLeft: Bool) {
    // What waited for one that is down has been dropped.
    guard let output = unsafe ports.output(port) else { return (0, false) }
    var frames = 0
    var isLeft = false
    for place in 0..<Int(unsafe output.pointee.count) {
      let sink = unsafe output.sinks + place
      let queue = unsafe sink.pointee.queue
      if !queue.hasWaiting { continue }
      if unsafe sharesQueues && !Worker.take(sink.pointee.state.lock) {
        isLeft = true
        continue
      }
      let delivered = queue.deliverWaiting(burst)
      queue.publish()
      let counters = unsafe sink.pointee.state.counters
      if delivered.frames > 0 {
        counters.add(.frames, delivered.frames)
        counters.add(.bytes, delivered.bytes)
        counters.add(.bursts, 1)
        frames &+= delivered.frames
      }
      if queue.hasWaiting { isLeft = true }
      if sharesQueues {
        interruptLater(queue)
        unsafe sink.pointee.state.lock.pointee.store(0, ordering: .releasing)
      } else {
        notifyLater(queue)
      }
    }
    return (frames, isLeft)
  }
}
