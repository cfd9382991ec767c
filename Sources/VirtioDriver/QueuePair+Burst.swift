internal import Synchronization

/// Sending and receiving in bursts without allocation: what the benchmark does.
extension QueuePair {
  static let burst = 64

  /// Fills the transmit buffers with `templates`, one after the other, and writes their descriptors.
  /// All templates are of one length. The device must have returned every transmit buffer.
  ///
  /// - Returns: false while the device holds transmit buffers.
  public func prepare(templates: [[UInt8]]) -> Bool {
    let length = templates[0].count
    precondition(templates.allSatisfy { $0.count == length } && length <= maxFrameLength)
    reclaim()
    guard transmitq.outstanding == 0 else { return false }
    let header = NetHeader().bytes(length: headerLength)
    for index in 0..<transmitq.size {
      transmitBuffers.write(header, at: index * transmitLength)
      transmitBuffers.write(
        templates[index % templates.count], at: index * transmitLength + headerLength)
    }
    transmitq.prime(
      pool: DriverRing.Pool(base: transmitBuffers.address, stride: transmitLength),
      length: UInt32(headerLength + length), writable: false)
    templateLength = length
    return true
  }

  /// Sends up to `limit` of the prepared frames, with one publication and at most one kick for each 64.
  ///
  /// - Parameter stamp: writes the virtio-net header and the first 8 bytes of the frame behind its
  ///   addresses anew each time, as a driver that builds its frames would.
  /// - Returns: the number sent; less than `limit` when the transmitq is full.
  public func sendBurst(_ limit: Int, stamp: Bool = false) -> Int {
    guard let length = templateLength else { preconditionFailure("prepare(templates:) first") }
    precondition(!stamp || length >= 22)
    var heads = InlineArray<64, UInt16>(repeating: 0)
    var lengths = InlineArray<64, UInt32>(repeating: 0)
    var sent = 0
    while sent < limit {
      var span = heads.mutableSpan
      var lengthSpan = lengths.mutableSpan
      // Buffers that have just come back first: they are warm. Then ones never used.
      var count = transmitq.take(&span, lengths: &lengthSpan)
      if count < min(limit - sent, QueuePair.burst), transmitq.freeCount > 0 {
        count += transmitq.reserve(&span, from: count)
      }
      let posted = min(count, limit - sent)
      if stamp {
        for index in 0..<posted {
          self.stamp(span[index], UInt64(truncatingIfNeeded: sent + index))
        }
      }
      transmitq.repost(span.span, count: posted)
      if count > posted {
        transmitq.release(span.span, posted..<count)
      }
      if posted == 0 { break }
      transmitq.publishAndKick()
      sent += posted
    }
    statistics.sentFrames += sent
    statistics.sentBytes += sent * length
    return sent
  }

  @inline(always)
  private func stamp(_ head: UInt16, _ value: UInt64) {
    // SAFETY: heads are below the ring's size, and a buffer holds header, addresses, type and 8 bytes
    // more, which `sendBurst` has checked.
    let start = unsafe transmitBuffers.pointer + (Int(head) &* transmitLength)
    unsafe start.storeBytes(of: 0 as UInt64, as: UInt64.self)
    unsafe (start + (headerLength &+ 14)).storeBytes(of: value, as: UInt64.self)
  }

  /// Takes up to `limit` buffers, reads the first 8 bytes of each frame (its destination), and posts them
  /// again.
  ///
  /// - Returns: whole frames, their bytes without headers, and the sum of what was read, which keeps the
  ///   reads from being optimised away.
  public func receiveBurst(_ limit: Int) -> (frames: Int, bytes: Int, sum: UInt64) {
    var heads = InlineArray<64, UInt16>(repeating: 0)
    var lengths = InlineArray<64, UInt32>(repeating: 0)
    var result = (frames: 0, bytes: 0, sum: 0 as UInt64)
    var taken = 0
    while taken < limit {
      var span = heads.mutableSpan
      var lengthSpan = lengths.mutableSpan
      let count = receiveq.take(&span, lengths: &lengthSpan, limit: limit - taken)
      if count == 0 { break }
      for index in 0..<count {
        // SAFETY: heads are below the ring's size; a buffer holds a header and 8 bytes more.
        let start = unsafe receiveBuffers.pointer + (Int(span[index]) &* receiveLength)
        if continuation == 0 {
          let buffers =
            mergeable ? Int(unsafe (start + 10).loadUnaligned(as: UInt16.self)) : 1
          continuation = max(buffers, 1)
          result.bytes &-= headerLength
          result.sum &+= unsafe (start + headerLength).loadUnaligned(as: UInt64.self)
        }
        result.bytes &+= Int(lengthSpan[index])
        continuation &-= 1
        if continuation == 0 { result.frames &+= 1 }
      }
      receiveq.repost(span.span, count: count)
      receiveq.publishAndKick()
      taken += count
    }
    statistics.receivedFrames += result.frames
    statistics.receivedBytes += result.bytes
    return result
  }
}
