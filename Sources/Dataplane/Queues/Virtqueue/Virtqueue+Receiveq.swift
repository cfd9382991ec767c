/// Delivering frames to a guest: each is copied once, from its sender's memory into the buffers the
/// receiver posted.
///
/// SAFETY: a buffer's address is what the memory's table has proved to be mapped for header and frame; pieces
/// and chains stay below their capacities, checked before each chain.
extension Virtqueue {
  /// Copies frames into the guest's buffers, in the order given; those that find no place are dropped by
  /// name. The entries stay invisible until `publish`.
  ///
  /// - Parameters:
  ///   - order: `count` frames of the burst.
  ///   - limit: bytes of the longest untagged frame the port takes.
  mutating func deliver(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> Delivered {
    var looks = Burst.deliveryDescriptors
    if burst.special.marked != 0 {
      return unsafe deliverOffloaded(burst, order, count, limit: limit, &looks)
    }
    return unsafe deliver(burst, order, count, limit: limit, offloaded: false, &looks)
  }

  /// Of frames that ask for something, those that the receiver can't take whole are cut into segments; the
  /// others go the common way and are mended there.
  @inline(never)
  private mutating func deliverOffloaded(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32,
    _ looks: inout Int
  ) -> Delivered {
    var delivered = Delivered()
    var first = 0
    while first < count {
      var end = first
      while end < count, unsafe !burst.mustSegment(Int(order[end]), accepted: offloads) {
        end &+= 1
      }
      if end > first {
        delivered += unsafe deliver(
          burst, order + first, end &- first, limit: limit, offloaded: true, &looks)
      }
      if end < count {
        delivered += unsafe deliverSegments(burst, Int(order[end]), limit: limit, &looks)
        end &+= 1
      }
      first = end
    }
    return delivered
  }

  @inline(never)
  private mutating func deliverSegments(
    _ burst: Burst, _ index: Int, limit: UInt32, _ looks: inout Int
  ) -> Delivered {
    var delivered = Delivered()
    if burst.exceeds(limit, index) {
      counters.drop(.exceedsMTU)
      return delivered
    }
    guard var segments = Segmenter(burst, index) else {
      counters.drop(.malformedOffload)
      return delivered
    }
    guard burst.claimSegments(segments.count) else {
      counters.drop(.segmentLimit)
      return delivered
    }
    delivered.extra = segments.count &- 1
    while segments.next() {
      switch placeAny(Burst.size, burst, limit: limit, &looks) {
      case .placed:
        delivered.frames &+= 1
        delivered.bytes &+= Int(unsafe burst.lengths[Burst.size])
      case .waits: delivered.waiting = true
      case .dropped(let reason):
        counters.drop(reason)
        if reason == .noReceiveBuffer || looks <= 0 {
          counters.drop(reason, segments.left)
          return delivered
        }
      }
    }
    return delivered
  }

  @inline(always)
  private mutating func deliver(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32,
    offloaded: Bool, _ looks: inout Int
  ) -> Delivered {
    var delivered = Delivered()
    var done = 0
    while done < count {
      let (run, bytes) = unsafe placePlain(burst, order + done, count &- done, limit: limit)
      if offloaded, run > 0 {
        unsafe burst.finish(order + done, run, headerSize: headerSize, accepted: offloads)
      }
      if let log = state.log { unsafe log.mark(burst, order + done, run, headerSize: headerSize) }
      delivered.frames &+= run
      delivered.bytes &+= bytes
      done &+= run
      if done == count { break }
      let index = Int(unsafe order[done])
      done &+= 1
      switch placeAny(index, burst, limit: limit, &looks) {
      case .placed:
        delivered.frames &+= 1
        delivered.bytes &+= Int(unsafe burst.lengths[index])
      case .waits: delivered.waiting = true
      case .dropped(let reason):
        counters.drop(reason)
        // With no buffer for this one there is none for those behind it.
        if reason == .noReceiveBuffer, available(1) == 0 {
          counters.drop(.noReceiveBuffer, count &- done)
          return delivered
        }
      }
    }
    return delivered
  }

  /// Copies one frame into buffers of any layout, as many as it needs, or says why it can't.
  ///
  /// - Parameter looks: descriptors that may still be looked at for the burst; below 1 there is no look.
  @inline(never)
  private mutating func placeAny(
    _ index: Int, _ burst: Burst, limit: UInt32, _ looks: inout Int
  ) -> Placed {
    if looks <= 0 { return .dropped(.malformedReceiveBuffer) }
    let length = unsafe burst.lengths[index]
    if burst.exceeds(limit, index) { return .dropped(.exceedsMTU) }
    if let iotlb = memory.iotlb, mustWait(iotlb) { return wait(index, burst, iotlb) }
    let needed = headerSize &+ length
    var claim = Claim()
    if let reason = self.claim(needed, burst, &looks, &claim) {
      if reason == .addressNotTranslated, let iotlb = memory.iotlb {
        return wait(index, burst, iotlb)
      }
      return .dropped(reason)
    }
    burst.fill(
      index, targets: claim.pieces, buffers: claim.chains, headerSize: headerSize,
      accepted: offloads)
    use(claim, needed, burst)
    return .placed
  }

  /// Finds buffers for `needed` bytes, header and frame: their pieces are the burst's targets, and the chains stay in the
  /// ring until `use`. Returns why there are none.
  ///
  /// - Parameter looks: as of `placeAny`.
  @inline(always)
  mutating func claim(
    _ needed: UInt32, _ burst: Burst, _ looks: inout Int, _ claim: inout Claim
  ) -> DropReason? {
    let needed = UInt64(needed)
    var room: UInt64 = 0
    var chains = 0
    var span = 0
    var pieces = 0
    var budget = 2 * Burst.targetCapacity
    defer { looks &-= 2 * Burst.targetCapacity &- budget }
    while room < needed {
      // Without merging a frame has one buffer only; it is kept for a frame that fits (5.1.9.3.2).
      if chains > 0, !mergeable { return .receiveBufferTooSmall }
      if chains == Burst.chainCapacity { return .receiveBufferTooSmall }
      if pieces < Burst.targetCapacity, budget > 0, let buffer = plainBuffer(ahead: span),
        buffer.piece.length >= (chains == 0 ? headerSize : 1)
      {
        let length = buffer.piece.length
        unsafe burst.targets[pieces] = buffer.piece
        unsafe burst.chains[chains] = Burst.TakenChain(id: buffer.id, span: 1, capacity: length)
        pieces &+= 1
        chains &+= 1
        span &+= 1
        room &+= UInt64(length)
        budget &-= 1
        continue
      }
      guard
        let chain = unsafe chain(
          ahead: span, writable: true, output: burst.targets + pieces,
          capacity: Burst.targetCapacity &- pieces, budget: &budget)
      else { return counters.isBroken ? .queueBroken : .noReceiveBuffer }
      if chain.fault == .addressNotTranslated {
        return awaitBuffer(chain, behind: chains, span, burst)
      }
      unsafe burst.chains[chains] = Burst.TakenChain(
        id: chain.id, span: chain.span, capacity: chain.length)
      chains &+= 1
      span &+= Int(chain.span)
      // A buffer that is no good, or has no room even for the header, would block the ring for ever: it
      // goes back empty, and costs the guest a frame.
      if chain.fault != nil || chain.length < (chains == 1 ? headerSize : 1) {
        return discard(chains, burst)
      }
      pieces &+= chain.pieces
      room &+= UInt64(chain.length)
    }

    claim = Claim(pieces: pieces, chains: chains, span: span)
    return nil
  }

  /// Takes the chains of a claim, whose pieces have been written, and gives them back.
  @inline(always)
  mutating func use(_ claim: Claim, _ needed: UInt32, _ burst: Burst) {
    if let log = state.log { log.mark(burst, pieces: claim.pieces, needed) }
    var left = needed
    for taken in 0..<claim.chains {
      let chain = unsafe burst.chains[taken]
      let written = min(left, chain.capacity)
      use(chain.id, span: chain.span, written: written)
      left &-= written
    }
    if let iotlb = memory.iotlb {
      iotlb.take(claim.span)
      iotlb.advance(by: claim.span)
      unsafe lookAhead(
        enough: iotlb.window / 2, writable: true, output: burst.targets,
        capacity: Burst.targetCapacity)
    }
  }

  /// Returns the chains set aside for a frame, empty, with the one among them that is no good.
  mutating func discard(_ chains: Int, _ burst: Burst) -> DropReason {
    for index in 0..<chains {
      let chain = unsafe burst.chains[index]
      use(chain.id, span: chain.span, written: 0)
    }
    return .malformedReceiveBuffer
  }
}

/// What a delivery came to.
struct Delivered {
  var frames = 0
  var bytes = 0
  /// Frames there were beyond those that were to be delivered: segments but the first of each.
  var extra = 0
  /// Frames wait for their buffers' translations: somebody is to come back to them.
  var waiting = false

  static func += (sum: inout Delivered, more: Delivered) {
    sum.frames &+= more.frames
    sum.bytes &+= more.bytes
    sum.extra &+= more.extra
    if more.waiting { sum.waiting = true }
  }
}

/// What became of one frame that was to be delivered.
enum Placed {
  case placed
  /// It waits (`WaitingFrames`).
  case waits
  case dropped(DropReason)
}

/// The buffers found for one frame.
struct Claim {
  /// Of the burst's targets.
  var pieces = 0
  /// Of the burst's chains, and how far the ring moves on when they are taken.
  var chains = 0
  var span = 0
}
