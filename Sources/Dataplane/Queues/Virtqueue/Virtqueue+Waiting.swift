internal import CLinux

/// Frames for a receiveq that lacks translations: they wait, as copies in the receiveq's own place (`WaitingFrames`), and
/// whatever comes after them waits behind them. Whoever put some there comes back to them (`Worker.attend`).
///
/// SAFETY: a place has the bytes that it was asked for; targets are what `claim` has found for so many.
extension Virtqueue {
  /// Whether a frame must go behind others that wait, or wait for the ring itself.
  @inline(always)
  func mustWait(_ iotlb: IOTLBView) -> Bool {
    isSuspended || iotlb.frames.map { $0.count > 0 } ?? false
  }

  /// Puts a copy of a frame among those that wait.
  @inline(never)
  func wait(_ index: Int, _ burst: Burst, _ iotlb: IOTLBView) -> Placed {
    if counters.isBroken { return .dropped(.queueBroken) }
    let needed = headerSize &+ (unsafe burst.lengths[index])
    guard let frames = iotlb.frames,
      let place = unsafe frames.append(Int(needed), until: clx_ticks() &+ iotlb.patience)
    else { return .dropped(.addressNotTranslated) }
    unsafe burst.targets[0] = unsafe Piece(place, needed)
    burst.fill(index, targets: 1, buffers: 1, headerSize: headerSize, accepted: offloads)
    return .waits
  }

  /// Whether frames wait. Others may be at it.
  var hasWaiting: Bool { memory.iotlb?.frames.map { $0.count > 0 } ?? false }

  /// Delivers frames that wait, a burst of them at most; those that have waited for too long are dropped by the name of what
  /// they lack.
  @inline(never)
  mutating func deliverWaiting(_ burst: Burst) -> Delivered {
    var delivered = Delivered()
    guard let iotlb = memory.iotlb, let frames = iotlb.frames else { return delivered }
    let now = clx_ticks()
    var looks = Burst.deliveryDescriptors
    for _ in 0..<Burst.size where frames.count > 0 {
      let frame = unsafe frames.first
      let length = UInt32(truncatingIfNeeded: unsafe frame.length)
      var claim = Claim()
      let reason =
        isSuspended
        ? .addressNotTranslated
        : looks <= 0 ? .malformedReceiveBuffer : self.claim(length, burst, &looks, &claim)
      if let reason {
        // What lacks buffers may still get some: the driver has just learned of those that were filled.
        let mayCome = reason == .addressNotTranslated || reason == .noReceiveBuffer
        if mayCome, unsafe Int64(bitPattern: frame.until &- now) > 0 { break }
        counters.drop(reason)
      } else {
        unsafe copy(frame.base, length, to: claim, burst)
        use(claim, length, burst)
        delivered.frames &+= 1
        delivered.bytes &+= Int(length &- headerSize)
      }
      frames.removeFirst()
      if delivered.bytes >= Burst.size * Burst.share { break }
    }
    return delivered
  }

  private func copy(
    _ base: UnsafeMutableRawPointer, _ length: UInt32, to claim: Claim, _ burst: Burst
  ) {
    if headerSize == 12 {
      // How many buffers it lies in is known only now (5.1.9.4.1).
      unsafe base.storeBytes(
        of: UInt16(truncatingIfNeeded: claim.chains).littleEndian, toByteOffset: 10,
        as: UInt16.self)
    }
    var cursor = unsafe PieceCursor(burst.targets, count: claim.pieces)
    unsafe cursor.write(base, Int(length))
  }

  /// Asks for what a frame's next buffer lacks, behind `chains` that were set aside for it. One that has lacked it for long
  /// goes back empty with them, so that those behind it can be filled.
  @inline(never)
  mutating func awaitBuffer(
    _ chain: Chain, behind chains: Int, _ span: Int, _ burst: Burst
  ) -> DropReason {
    if chains == 0 {
      unsafe awaitTranslation(
        writable: true, output: burst.targets, capacity: Burst.targetCapacity)
    } else {
      unsafe lookAhead(
        enough: 1 + span, writable: true, output: burst.targets, capacity: Burst.targetCapacity)
    }
    if let iotlb = memory.iotlb, iotlb.hasWaitedLong() {
      unsafe burst.chains[chains] = Burst.TakenChain(id: chain.id, span: chain.span, capacity: 0)
      _ = discard(chains &+ 1, burst)
    }
    return .addressNotTranslated
  }
}

extension SplitQueue {
  /// Bytes of the ring that a suspended one has: none of its parts, all of them zero.
  private static let emptyRing = 64

  /// A queue that stands for a receiveq whose own parts are not translated: a ring without entries. Frames for it wait.
  ///
  /// - Parameter queue: the one that it stands for.
  static func suspended(
    for old: RunningQueue, _ state: QueueState, _ arena: Arena
  ) throws -> RunningQueue {
    let size = (MemoryLayout<SplitQueue>.size + Arena.line - 1) / Arena.line * Arena.line
    let bytes = size + emptyRing
    let block = unsafe try arena.allocate(bytes: bytes)
    let ring = unsafe block + size
    let queue = unsafe block.bindMemory(to: SplitQueue.self, capacity: 1)
    guard let view = old.space?.view else { throw DataplaneError("only a virtqueue can wait") }
    unsafe queue.initialize(
      to: SplitQueue(
        ring: SplitRing(descriptors: ring, avail: ring, used: ring + 32, size: 0, mask: 0),
        memory: view, state: state, headerSize: UInt32(old.headerSize), eventIndex: false,
        indirect: false, mergeable: false, offloads: old.offloads, nextAvail: 0, seenAvail: 0,
        nextUsed: 0, signalledUsed: 0))
    let stand = unsafe RunningQueue(
      .split(queue), at: block, bytes: bytes, resources: old.resources, space: old.space,
      log: old.log,
      headerSize: old.headerSize, offloads: old.offloads, isEnabled: old.isEnabled, doorbell: nil,
      call: old.call)
    stand.isSuspended = true
    return stand
  }
}
