public import Linux

/// Taking frames from the receiveq (virtio v1.4, 5.1.9.3 and 5.1.9.4).
extension QueuePair {
  /// The next frame, or `nil` when none has come. Its buffers are posted again at once.
  public func receive() -> [UInt8]? { receiveWithHeader()?.frame }

  /// The next frame, waiting for it at most `milliseconds` on the receiveq's call eventfd.
  public func receive(milliseconds: Int) throws(SystemError) -> [UInt8]? {
    try receiveWithHeader(milliseconds: milliseconds)?.frame
  }

  /// `receive(milliseconds:)` with the virtio-net header.
  public func receiveWithHeader(milliseconds: Int) throws(SystemError) -> Received? {
    let deadline = Deadline(milliseconds: milliseconds)
    while true {
      if let received = receiveWithHeader() { return received }
      let left = deadline.left
      if left == 0 { return nil }
      _ = try receiveq.waitForUsed(milliseconds: left)
    }
  }

  /// The next frame with its virtio-net header, put together from `num_buffers` buffers.
  public func receiveWithHeader() -> Received? {
    while let first = take() {
      let received = assemble(first)
      receiveq.publishAndKick()
      guard let received else { continue }
      statistics.receivedFrames += 1
      statistics.receivedBytes += received.frame.count
      return received
    }
    return nil
  }

  /// Reads a frame and posts its buffers again; `nil` for something that is no frame.
  private func assemble(_ first: DriverRing.Used) -> Received? {
    let bytes = contents(first)
    post(first.token)
    guard bytes.count >= headerLength else {
      note("a receive buffer of \(bytes.count) bytes, less than the header (5.1.9)")
      return nil
    }
    let header = NetHeader(bytes, length: headerLength)
    var frame = Array(bytes.dropFirst(headerLength))
    if !mergeable, header.numBuffers != 1 {
      note("num_buffers \(header.numBuffers) without MRG_RXBUF (5.1.9.4.1)")
    }
    if header.numBuffers == 0 { note("num_buffers 0 (5.1.9.4.1)") }
    let buffers = mergeable ? max(1, Int(header.numBuffers)) : 1
    var previous = bytes.count
    for index in 1..<max(1, buffers) {
      guard let used = take() else {
        note("\(index) of \(buffers) buffers of a frame shown (5.1.9.4.1)")
        return nil
      }
      if previous != receiveLength {
        note("a buffer of a frame that goes on has \(previous) bytes of \(receiveLength)")
      }
      frame += contents(used)
      previous = Int(used.length)
      post(used.token)
    }
    for offence in rules.offences(header, frame) { note(offence) }
    return Received(header: header, frame: frame, buffers: buffers)
  }

  private func take() -> DriverRing.Used? {
    hasPlainReceiveBuffers ? receiveq.takeSingle() : receiveq.nextUsed()
  }

  private func post(_ token: UInt16) {
    if hasPlainReceiveBuffers { receiveq.repost(token) } else { refill() }
  }

  private func contents(_ used: DriverRing.Used) -> [UInt8] {
    receiveBuffers.read(at: Int(used.token) * receiveLength, count: Int(used.length))
  }
}
