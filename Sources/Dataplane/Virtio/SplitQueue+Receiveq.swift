internal import CLinux
internal import Glibc

/// Delivering frames to a guest: each is copied once, from its sender's memory into the buffers the
/// receiver posted.
extension SplitQueue {
  /// What a delivery came to.
  struct Delivered {
    var frames = 0
    var bytes = 0
  }

  /// Copies the frames linked from `first` into the guest's buffers, in order; those that find no place
  /// are dropped by name. The entries stay invisible until `publish`.
  ///
  /// - Parameter limit: bytes of the longest untagged frame the port takes.
  mutating func deliver(_ burst: Burst, first: UInt16, limit: UInt32) -> Delivered {
    var delivered = Delivered()
    var index = first
    while index != Frame.end {
      let frame = unsafe burst.frames + Int(index)
      if let reason = unsafe place(frame, burst, limit: limit) {
        counters.drop(reason)
      } else {
        delivered.frames &+= 1
        delivered.bytes &+= Int(unsafe frame.pointee.length)
      }
      index = unsafe frame.pointee.next
    }
    return delivered
  }

  /// Copies one frame, or says why it can't.
  @inline(always)
  private mutating func place(
    _ frame: UnsafeMutablePointer<Frame>, _ burst: Burst, limit: UInt32
  ) -> DropReason? {
    let length = unsafe frame.pointee.length
    // A VLAN tag is not part of the MTU (5.1.4.1).
    if length > limit, unsafe length > limit &+ (frame.pointee.header.isTagged ? 4 : 0) {
      return .exceedsMTU
    }
    if available(1) == 0 { return counters.isBroken ? .queueBroken : .noReceiveBuffer }
    let head = availEntry(nextAvail)
    if head >= size {
      breakDown(.headOutOfRange)
      return .queueBroken
    }
    // The common case first: one descriptor has room for all of it.
    let descriptor = unsafe Descriptor(descriptors, head)
    let source = unsafe frame.pointee.contiguous
    if descriptor.flags & (Descriptor.next | Descriptor.write | Descriptor.indirect)
      == Descriptor.write,
      descriptor.length >= headerSize &+ length, source != 0,
      let base = unsafe memory.translate(
        descriptor.address, headerSize &+ length, hint: &region)
    {
      unsafe writeNetHeader(base, buffers: 1)
      let data = unsafe base + Int(headerSize)
      let header = unsafe frame.pointee.header
      unsafe data.storeBytes(of: header.first, as: UInt64.self)
      unsafe data.storeBytes(of: header.second, toByteOffset: 8, as: UInt64.self)
      let rest = Int(length) &- EthernetHeader.held
      // SAFETY: a contiguous frame has at least 16 bytes; `translate` has proved room for all of it.
      unsafe memcpy(
        data + EthernetHeader.held,
        UnsafeRawPointer(bitPattern: source &+ UInt(EthernetHeader.held)).unsafelyUnwrapped, rest)
      nextAvail &+= 1
      append(head: head, written: headerSize &+ length)
      return nil
    }
    return unsafe placeAnyLayout(frame, burst)
  }

  /// The whole virtio-net header, padding included: no byte of this process's memory reaches a guest.
  /// Nothing is offloaded, so all of it is zero but `num_buffers` (5.1.9.4.1), where there is one.
  @inline(always)
  private func writeNetHeader(_ base: UnsafeMutableRawPointer, buffers: UInt16) {
    unsafe base.storeBytes(of: 0, as: UInt64.self)
    unsafe base.storeBytes(of: 0, toByteOffset: 8, as: UInt16.self)
    if headerSize == 12 {
      unsafe base.storeBytes(of: buffers.littleEndian, toByteOffset: 10, as: UInt16.self)
    }
  }

  /// Any layout of descriptors, frames in pieces, and frames that need several buffers.
  @inline(never)
  private mutating func placeAnyLayout(
    _ frame: UnsafeMutablePointer<Frame>, _ burst: Burst
  ) -> DropReason? {
    let length = unsafe frame.pointee.length
    let needed = UInt64(headerSize &+ length)
    var room: UInt64 = 0
    var chains = 0
    var pieces = 0
    var budget = 2 * Burst.targetCapacity
    while room < needed {
      let at = nextAvail &+ UInt16(truncatingIfNeeded: chains)
      // Without merging a frame has one buffer only; it is kept for a frame that fits (5.1.9.3.2).
      if chains > 0, !mergeable { return .receiveBufferTooSmall }
      if available(chains &+ 1) <= chains {
        return counters.isBroken ? .queueBroken : .noReceiveBuffer
      }
      if chains == Burst.chainCapacity { return .receiveBufferTooSmall }
      let head = availEntry(at)
      if head >= size {
        breakDown(.headOutOfRange)
        return .queueBroken
      }
      let chain = unsafe walk(
        head: head, writable: true, output: burst.targets + pieces,
        capacity: Burst.targetCapacity &- pieces, budget: &budget)
      unsafe burst.chains[chains] = Burst.TakenChain(head: head, capacity: chain.length)
      chains &+= 1
      // A buffer that is no good, or has no room even for the header, would block the ring for ever: it
      // goes back empty, and costs the guest a frame.
      if chain.fault != nil || chain.length < (chains == 1 ? headerSize : 1) {
        return discard(chains, burst)
      }
      pieces &+= Int(chain.segments)
      room &+= UInt64(chain.length)
    }

    unsafe fill(burst.targets, pieces, buffers: chains, with: frame, burst)
    var left = headerSize &+ length
    for index in 0..<chains {
      let chain = unsafe burst.chains[index]
      let written = min(left, chain.capacity)
      append(head: chain.head, written: written)
      left &-= written
    }
    nextAvail &+= UInt16(truncatingIfNeeded: chains)
    return nil
  }

  /// Returns the chains set aside for a frame, empty, with the one among them that is no good.
  private mutating func discard(_ chains: Int, _ burst: Burst) -> DropReason {
    for index in 0..<chains { append(head: unsafe burst.chains[index].head, written: 0) }
    nextAvail &+= UInt16(truncatingIfNeeded: chains)
    return .malformedReceiveBuffer
  }

  private func fill(
    _ targets: UnsafeMutablePointer<Segment>, _ pieces: Int, buffers: Int,
    with frame: UnsafeMutablePointer<Frame>, _ burst: Burst
  ) {
    var cursor = unsafe SegmentCursor(targets, count: pieces)
    let length = Int(unsafe frame.pointee.length)
    // SAFETY: the two locals are private memory of the sizes given; `held` bytes of the header are the
    // frame's own.
    unsafe withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { scratch in
      guard let base = scratch.baseAddress else { return }
      unsafe writeNetHeader(base, buffers: UInt16(truncatingIfNeeded: buffers))
      unsafe cursor.write(base, Int(headerSize))
    }
    let held = min(length, EthernetHeader.held)
    var header = unsafe frame.pointee.header
    unsafe withUnsafeBytes(of: &header) { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe cursor.write(base, held)
    }
    let contiguous = unsafe frame.pointee.contiguous
    if let base = unsafe UnsafeRawPointer(bitPattern: contiguous) {
      unsafe cursor.write(base + held, length &- held)
    } else {
      let first = Int(unsafe frame.pointee.firstSegment)
      var source = unsafe SegmentCursor(
        burst.segments + first, count: Int(frame.pointee.segmentCount))
      source.skip(held)
      cursor.copy(from: &source, length &- held)
    }
  }
}
