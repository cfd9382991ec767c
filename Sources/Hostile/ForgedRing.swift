public import VirtioDriver

/// A descriptor as somebody writes it who keeps to no rule, for a ring or an indirect table of either layout.
public struct ForgedDescriptor: Sendable {
  public var address: UInt64
  public var length: UInt32
  /// NEXT, WRITE and INDIRECT, or anything else; a packed ring's AVAIL and USED are added.
  public var flags: UInt16
  /// Of a split ring: the next descriptor; `nil`: the one behind this.
  public var next: UInt16?
  /// Of a packed ring: the buffer id; `nil`: its place in the ring.
  public var id: UInt16?

  public init(
    _ address: UInt64, _ length: UInt32, flags: UInt16 = 0, next: UInt16? = nil, id: UInt16? = nil
  ) {
    self.address = address
    self.length = length
    self.flags = flags
    self.next = next
    self.id = id
  }

  public init(_ buffer: GuestBuffer, flags: UInt16 = 0) {
    self.init(buffer.address, UInt32(buffer.length), flags: flags)
  }

  public static let next = RawDescriptor.nextFlag
  public static let write = RawDescriptor.writeFlag
  public static let indirect = RawDescriptor.indirectFlag
}

/// One ring of a guest whose descriptors are forged. The guest's own driver knows nothing of it: it must not use
/// the ring any more.
public final class ForgedRing {
  public let guest: GuestPort
  private let pair: QueuePair
  private let isTransmitq: Bool
  public let size: Int
  public let isPacked: Bool
  /// Where the next descriptor goes.
  public private(set) var position = PackedPosition()
  /// Where the chain offered last begins.
  private var last: PackedPosition?

  public init(_ guest: GuestPort, transmitq: Bool = true, pair index: Int = 0) {
    self.guest = guest
    pair = guest.pairs[index]
    isTransmitq = transmitq
    size = guest.options.ringSize
    isPacked = guest.features.contains(.ringPacked)
  }

  /// The ring itself.
  @discardableResult
  public func withRing<Result, Failure: Error>(
    _ body: (inout DriverRing) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    isTransmitq ? try body(&pair.transmitq) : try body(&pair.receiveq)
  }

  /// Writes a chain at the next places of the ring, with NEXT in all but the last, shows it and kicks.
  ///
  /// - Parameter linked: whether NEXT is set here; else the descriptors are written as they are.
  public func offer(_ chain: [ForgedDescriptor], linked: Bool = true) {
    offer(batch: [chain], linked: linked)
  }

  /// Writes several chains, and shows all of them at the same moment.
  public func offer(batch: [[ForgedDescriptor]], linked: Bool = true) {
    var held: (slot: Int, descriptor: PackedDescriptor)?
    for chain in batch {
      let first = position
      last = first
      for (place, forged) in chain.enumerated() {
        var forged = forged
        if linked, place + 1 < chain.count { forged.flags |= ForgedDescriptor.next }
        let slot = Int(position.index)
        if isPacked {
          let descriptor = PackedDescriptor(
            address: forged.address, length: forged.length, id: forged.id ?? UInt16(slot),
            flags: forged.flags ^ position.availFlags)
          // The device looks at the first as soon as it is there, and so at none before.
          if held == nil {
            held = (slot, descriptor)
          } else {
            withRing { $0.writePackedDescriptor(slot, descriptor) }
          }
        } else {
          let next = forged.next ?? UInt16((slot + 1) % size)
          withRing {
            $0.writeDescriptor(
              slot,
              RawDescriptor(
                address: forged.address, length: forged.length, flags: forged.flags, next: next))
          }
        }
        position.advance(by: 1, size: size)
      }
      if !isPacked { withRing { $0.pushRaw(head: first.index) } }
    }
    if let held { withRing { $0.writePackedDescriptor(held.slot, held.descriptor) } }
    publish()
  }

  /// Offers a chain `head` of a split ring, whatever is there.
  public func offer(head: UInt16) {
    withRing { $0.pushRaw(head: head) }
    publish()
  }

  private func publish() {
    withRing { ring in
      if !isPacked { ring.publish() }
      ring.kick()
    }
  }

  /// Waits until the device has given back what was offered last; false when `milliseconds` were not enough.
  @discardableResult
  public func awaitUsed(milliseconds: Int = 2000) -> Bool {
    Deadline.wait(milliseconds: milliseconds) { isUsed }
  }

  /// Whether the device has given back what was offered last.
  public var isUsed: Bool {
    withRing { ring in
      if !isPacked { return ring.usedIndex == ring.availIndex }
      guard let last else { return true }
      let flags = ring.readPackedDescriptor(Int(last.index)).flags
      return flags & PackedDescriptor.bothFlags == last.usedFlags
    }
  }

  /// Stops the ring and starts it with nothing in it, as a driver does that is loaded anew.
  public func restart() throws(FrontEndError) {
    let index = isTransmitq ? 1 : 0
    _ = try guest.frontEnd.stopRing(index)
    position = PackedPosition()
    last = nil
    try withRing { ring throws(FrontEndError) in
      ring.reset()
      try guest.frontEnd.setUpRing(index, ring)
    }
  }

  /// Writes descriptor `slot` anew, which is available already: one of a receiveq, say, in which a fresh guest has
  /// posted a buffer of one descriptor at every place.
  public func overwrite(_ slot: Int, _ forged: ForgedDescriptor) {
    withRing { ring in
      if isPacked {
        ring.writePackedDescriptor(
          slot,
          PackedDescriptor(
            address: forged.address, length: forged.length, id: forged.id ?? UInt16(slot),
            flags: forged.flags ^ PackedDescriptor.availFlag))
      } else {
        ring.writeDescriptor(
          slot,
          RawDescriptor(
            address: forged.address, length: forged.length, flags: forged.flags,
            next: forged.next ?? UInt16((slot + 1) % size)))
      }
    }
  }

  /// Writes an indirect table into `buffer`, in this ring's layout.
  public func writeTable(_ entries: [ForgedDescriptor], to buffer: GuestBuffer) {
    for (slot, entry) in entries.enumerated() {
      var words = FrontEndMessage.words(entry.address) + FrontEndMessage.words(entry.length)
      words +=
        isPacked
        ? FrontEndMessage.words(entry.id ?? 0, entry.flags)
        : FrontEndMessage.words(entry.flags, entry.next ?? UInt16(truncatingIfNeeded: slot + 1))
      buffer.write(words, at: 16 * slot)
    }
  }
}
