internal import Linux
internal import Synchronization

/// The generator's work for each frame. A loop a function, each small enough that all its values are in
/// registers: inlined into one another they would not be, which costs more than the calls, of which there is
/// one a burst.
extension Lane {
  /// Takes a burst of received buffers into `heads` and `lengths`; returns how many. They are the lane's
  /// until `post`.
  @inline(always)
  mutating func take() -> Int {
    // SAFETY: both have room for a burst.
    unsafe receiveq.take(heads, lengths, limit: Lane.burst)
  }

  /// Posts the first `count` of `heads` again.
  @inline(always)
  mutating func post(_ count: Int) {
    unsafe receiveq.repost(heads, count: count)
    receiveq.publish()
  }

  /// Reads the first line of each of `count` frames taken.
  @inline(never)
  mutating func read(_ count: Int) {
    let (frames, stride, full) = unsafe (receiveFrames, receiveStride, fullLength)
    let (heads, lengths) = unsafe (heads, lengths)
    var sum = SIMD8<UInt64>()
    var bytes = 0
    var longest: UInt32 = 0
    var index = 0
    while index < count {
      // SAFETY: heads are below the ring's size, and every buffer has a line at least.
      let frame = unsafe frames + Int(heads[index]) &* stride
      let length = unsafe lengths[index]
      sum &+= unsafe frame.load(as: SIMD8<UInt64>.self)
      bytes &+= Int(length)
      longest = max(longest, length)
      index &+= 1
    }
    self.sum &+= sum.wrappedSum()
    // A buffer that is not full is its frame's last: then there are as many frames as buffers.
    let whole = longest >= full || continuation != 0 ? frameEnds(count) : count
    counts.receivedFrames &+= UInt64(truncatingIfNeeded: whole)
    counts.receivedBytes &+= UInt64(truncatingIfNeeded: bytes &- whole &* headerLength)
  }

  /// How many of `count` buffers taken are their frame's last.
  @inline(never)
  private mutating func frameEnds(_ count: Int) -> Int {
    var ends = 0
    for index in 0..<count where advance(index) { ends += 1 }
    return ends
  }

  /// Goes on to the next buffer taken, number `index`; returns whether it is its frame's last. Only a full
  /// one can have another behind it, and how many there are the header of the first says (virtio v1.4,
  /// 5.1.9.4).
  private mutating func advance(_ index: Int) -> Bool {
    if continuation == 0 {
      // SAFETY: heads are below the ring's size; `num_buffers` are the two bytes before the frame.
      let frame = unsafe receiveFrames + Int(heads[index]) &* receiveStride
      continuation =
        unsafe lengths[index] < fullLength
        ? 1 : max(1, Int(unsafe (frame - 2).loadUnaligned(as: UInt16.self)))
    }
    continuation -= 1
    return continuation == 0
  }

  /// `read`, with the time each frame took as a sample: its stamp says when it was to be sent.
  ///
  /// - Parameter now: in ticks.
  @inline(never)
  mutating func time(_ count: Int, now: UInt64, _ samples: inout Samples) {
    let begun = continuation
    for index in 0..<count {
      // SAFETY: heads are below the ring's size, and every buffer has a line at least.
      let frame = unsafe receiveFrames + Int(heads[index]) &* receiveStride
      if continuation == 0 {
        samples.add(
          stamp: unsafe frame.load(fromByteOffset: stampOffset, as: UInt64.self), now: now)
      }
      _ = advance(index)
    }
    continuation = begun
    read(count)
  }

  /// `read`, with every byte checked.
  @inline(never)
  mutating func verify(_ count: Int, _ verifier: Verifier) {
    let begun = continuation
    for index in 0..<count {
      let head = unsafe Int(heads[index])
      // SAFETY: the buffer begins with the header and has as many bytes as were posted, which `take` has
      // made sure the length is within.
      unsafe verifier.take(
        receiveFrames + head * receiveStride - headerLength, Int(lengths[index]),
        header: continuation == 0 ? headerLength : 0)
      if advance(index) { verifier.finish() }
    }
    continuation = begun
    read(count)
  }

  /// Takes a burst of transmit buffers back, if so many are there.
  @inline(always)
  mutating func reclaim() -> Int {
    let mask = transmitq.size &- 1
    let end = (idleFirst &+ idleCount) & mask
    // SAFETY: the slots from `end` to the end of the array are inside it; those that the burst fills are
    // free, as there are no more heads than slots.
    let reclaimed = unsafe transmitq.take(
      idle + end, lengths, limit: min(Lane.burst, mask &+ 1 &- end))
    idleCount &+= reclaimed
    counts.held &+= UInt64(truncatingIfNeeded: buffers &- idleCount)
    return reclaimed
  }

  /// Sends up to `limit` frames, at most a burst, with the stamps `stamp`, `stamp + step` … Returns how
  /// many.
  @inline(always)
  mutating func transmit(
    _ limit: Int, stamp: UInt64, step: UInt64, _ verifier: Verifier? = nil
  ) -> Int {
    let mask = transmitq.size &- 1
    // Of more than three, `min` would make an array.
    let count = min(min(limit, idleCount), min(Lane.burst, mask &+ 1 &- idleFirst))
    if count <= 0 || flowCount == 0 { return 0 }
    writeHeaders(count, stamp: stamp, step: step)
    if inventedSources > 0 { inventSources(count) }
    if let verifier { fill(count, stamp: stamp, verifier) }
    counts.sentFrames &+= UInt64(truncatingIfNeeded: count)
    counts.sentBytes &+= UInt64(
      truncatingIfNeeded: frameLength > 0 ? count &* frameLength : mixedBytes(count))
    // SAFETY: `count` slots from `idleFirst` are inside the array and hold idle heads.
    unsafe transmitq.repost(idle + idleFirst, count: count)
    transmitq.publish()
    idleFirst = (idleFirst &+ count) & mask
    idleCount &-= count
    return count
  }

  /// Writes addresses, EtherType and stamp of the next `count` frames.
  @inline(never)
  private mutating func writeHeaders(_ count: Int, stamp: UInt64, step: UInt64) {
    let (frames, stride, flows, end) = unsafe (transmitFrames, transmitStride, flows, flowCount)
    let burst = unsafe idle + idleFirst
    let place = stampOffset
    var flow = nextFlow
    var stamp = stamp
    var index = 0
    while index < count {
      // SAFETY: heads are below the ring's size, and every buffer has room for `minFrameLength` bytes;
      // `flow` is below the number of flows.
      let frame = unsafe frames + Int(burst[index]) &* stride
      unsafe frame.storeBytes(of: flows[flow], as: SIMD2<UInt64>.self)
      unsafe frame.storeBytes(of: stamp, toByteOffset: place, as: UInt64.self)
      stamp &+= step
      flow &+= 1
      if flow == end { flow = 0 }
      index &+= 1
    }
    nextFlow = flow
    sequence &+= UInt64(truncatingIfNeeded: count)
  }

  /// Gives each of the next `count` frames a source address that none of the last `inventedSources` had.
  @inline(never)
  private func inventSources(_ count: Int) {
    // `writeHeaders` has counted them already.
    var number = UInt32(
      truncatingIfNeeded: (sequence &- UInt64(truncatingIfNeeded: count))
        % UInt64(truncatingIfNeeded: inventedSources))
    for index in 0..<count {
      // SAFETY: as above. The last four bytes of a station's address are its number.
      let frame = unsafe transmitFrames + Int(idle[idleFirst &+ index]) &* transmitStride
      unsafe frame.storeBytes(
        of: (number | 0x4000_0000).bigEndian, toByteOffset: 8, as: UInt32.self)
      number &+= 1
      if number == inventedSources { number = 0 }
    }
  }

  /// Writes all behind the stamps of the next `count` frames.
  @inline(never)
  private func fill(_ count: Int, stamp: UInt64, _ verifier: Verifier) {
    for index in 0..<count {
      // SAFETY: as above; the lengths are by head.
      let head = unsafe Int(idle[idleFirst + index])
      let length = unsafe Int(frameLengths[head])
      verifier.fill(
        transmit, pieces(head, length), stamp: stamp &+ UInt64(index), length: length)
    }
  }

  /// Bytes of the next `count` frames.
  @inline(never)
  private func mixedBytes(_ count: Int) -> Int {
    var bytes = 0
    for index in 0..<count {
      // SAFETY: as above.
      bytes += unsafe Int(frameLengths[Int(idle[idleFirst + index])])
    }
    return bytes
  }

  /// Kicks either queue if the device wants that: it may sleep.
  @inline(never)
  mutating func kickIfWanted() {
    if receiveq.shouldKick() { receiveq.kick() }
    if transmitq.shouldKick() { transmitq.kick() }
  }

  /// Kicks both queues.
  func kick() {
    receiveq.kickEvent.signal()
    transmitq.kickEvent.signal()
  }
}
