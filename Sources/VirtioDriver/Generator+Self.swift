internal import CLinux
internal import Synchronization

/// The generator alone: what a frame costs it when the switch costs nothing.
extension Generator {
  /// Runs two lanes against a device that lives in this thread, moves ring entries and copies nothing, and
  /// times the lanes only. Neither lane may have another device.
  ///
  /// - Returns: nanoseconds for a frame sent on one lane and received on the other, every line of it in
  ///   this processor's cache.
  public func measureSelf(rounds: Int = 20_000) -> Double {
    precondition(count == 2)
    var devices = (LoopDevice(), LoopDevice())
    var ticks: UInt64 = 0
    var frames: UInt64 = 0
    for round in 0..<rounds {
      devices.0.move(from: self[0].transmitq, to: self[1].receiveq, length: bytes(0))
      devices.1.move(from: self[1].transmitq, to: self[0].receiveq, length: bytes(1))
      let before = counts.receivedFrames
      let begin = clx_ticks()
      run(seconds: 0)
      let took = clx_ticks() &- begin
      // The first rounds warm up.
      if round * 10 >= rounds {
        ticks += took
        frames += counts.receivedFrames - before
      }
    }
    return Double(ticks) / Double(max(1, frames)) / ticksPerSecond * 1e9
  }

  private func bytes(_ index: Int) -> UInt32 {
    UInt32(self[index].headerLength + self[index].frameLength)
  }
}

/// The least that a device can do.
private struct LoopDevice {
  private var seenTransmit: UInt16 = 0
  private var seenReceive: UInt16 = 0

  /// Returns up to a burst of transmit buffers and shows as many receive buffers as filled.
  mutating func move(
    from transmitq: borrowing DriverRing, to receiveq: borrowing DriverRing, length: UInt32
  ) {
    let count = min(
      transmitq.availIndex &- seenTransmit, receiveq.availIndex &- seenReceive,
      UInt16(Lane.burst))
    for index in 0..<count {
      transmitq.writeUsedEntry(
        seenTransmit &+ index, UInt32(transmitq.readAvailEntry(seenTransmit &+ index)), 0)
      receiveq.writeUsedEntry(
        seenReceive &+ index, UInt32(receiveq.readAvailEntry(seenReceive &+ index)), length)
    }
    seenTransmit &+= count
    seenReceive &+= count
    transmitq.usedIndex = seenTransmit
    receiveq.usedIndex = seenReceive
  }
}
