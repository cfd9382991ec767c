import Linux
import Synchronization

@testable import VirtioDriver

/// A packed-ring device (virtio v1.4, 2.8), as naive as its split sibling. Places are plain counts of
/// descriptors since the ring was new; index and wrap counter are worked out from them each time.
final class PackedReferenceDevice: ReferenceDevice {
  /// Both positions of a new ring: index 0, wrap counter 1.
  static let fresh: UInt32 = 0x8000_8000

  /// Descriptors taken, and descriptors passed by used elements. Even laps have wrap counter 1.
  private var taken = 0
  private var passed = 0
  private var published = 0
  /// Descriptors of each chain taken and not completed, by buffer id.
  private var lengths: [UInt16: Int] = [:]
  /// Used elements not shown yet: place, id, length.
  private var pending: [(place: Int, id: UInt16, length: Int)] = []

  required init(
    size: Int, descriptors: UnsafeMutableRawPointer, avail: UnsafeMutableRawPointer,
    used: UnsafeMutableRawPointer, eventIndex: Bool, base: UInt32, call: OwnedFD?,
    translate: @escaping (UInt64, Int) -> UnsafeMutableRawPointer
  ) {
    super.init(
      size: size, descriptors: descriptors, avail: avail, used: used, eventIndex: eventIndex,
      base: base, call: call, translate: translate)
    func place(_ half: UInt32) -> Int { Int(half & 0x7FFF) + (half & 0x8000 != 0 ? 0 : size) }
    taken = place(base)
    passed = place(base >> 16)
    published = passed
  }

  private func word(_ place: Int) -> UInt16 {
    UInt16(place % size) | (wrap(place) ? 0x8000 : 0)
  }

  private func wrap(_ place: Int) -> Bool { place / size % 2 == 0 }

  private func flags(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt16>> {
    ReferenceDevice.word(descriptors, 16 * (place % size) + 14)
  }

  private func isAvailable(_ place: Int) -> Bool {
    let value = flags(place).pointee.load(ordering: .acquiring)
    return (value & 0x80 != 0) == wrap(place) && (value & 0x8000 != 0) != wrap(place)
  }

  override var base: UInt32 { UInt32(word(taken)) | UInt32(word(passed)) << 16 }

  override func next() -> Chain? {
    if !isAvailable(taken) { return nil }
    var chain = Chain(head: 0)
    while true {
      precondition(isAvailable(taken), "a partial chain (2.8.6)")
      let at = descriptors + 16 * (taken % size)
      let flags = flags(taken).pointee.load(ordering: .acquiring)
      let piece = Piece(at.load(as: UInt64.self), (at + 8).load(as: UInt32.self))
      chain.head = (at + 12).load(as: UInt16.self)
      chain.descriptors += 1
      taken += 1
      if flags & 4 != 0 {
        precondition(flags & 1 == 0 && chain.descriptors == 1, "indirect in a chain (2.8.19)")
        chain.tables += 1
        let table = translate(piece.address, Int(piece.length))
        for entry in 0..<Int(piece.length) / 16 {
          let at = table + 16 * entry
          append(
            Piece(at.load(as: UInt64.self), (at + 8).load(as: UInt32.self)),
            (at + 14).load(as: UInt16.self), to: &chain)
        }
        break
      }
      append(piece, flags, to: &chain)
      if flags & 1 == 0 { break }
    }
    precondition(lengths[chain.head] == nil, "a buffer id twice")
    lengths[chain.head] = chain.descriptors
    return chain
  }

  private func append(_ piece: Piece, _ flags: UInt16, to chain: inout Chain) {
    if flags & 2 != 0 {
      chain.writable.append(piece)
    } else {
      precondition(chain.writable.isEmpty, "readable after writable")
      chain.readable.append(piece)
    }
  }

  override func complete(_ head: UInt32, _ length: Int) {
    let id = UInt16(truncatingIfNeeded: head)
    pending.append((passed, id, length))
    passed += lengths.removeValue(forKey: id) ?? 1
  }

  /// One used element for several chains (2.8.8).
  override func completeTogether(_ heads: [UInt16], _ length: Int) {
    let (place, before) = (passed, pending)
    for head in heads { complete(UInt32(head), length) }
    if let last = heads.last { pending = before + [(place, last, length)] }
  }

  /// The last first, so that the driver sees all or nothing; interrupts by the book (2.8.10).
  override func publish() {
    for (place, id, length) in pending.reversed() {
      let at = descriptors + 16 * (place % size)
      (at + 8).storeBytes(of: UInt32(length), as: UInt32.self)
      (at + 12).storeBytes(of: id, as: UInt16.self)
      let value: UInt16 = (wrap(place) ? 0x8080 : 0) | (length > 0 ? 2 : 0)
      flags(place).pointee.store(value, ordering: .releasing)
    }
    pending = []
    let old = published
    published = passed
    if old == passed { return }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    let event = event(avail).pointee.load(ordering: .relaxed)
    let wanted =
      switch event >> 16 & 3 {
      case 0: true
      case 1: false
      default:
        eventIndex && (old..<passed).contains { word($0) == UInt16(truncatingIfNeeded: event) }
      }
    if wanted {
      interrupts += 1
      if let call { Notifier.signal(call) }
    }
  }

  private func event(
    _ part: UnsafeMutableRawPointer
  ) -> UnsafeMutablePointer<Atomic<UInt32>> {
    part.assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  override func requestKicks() -> Bool {
    event(used).pointee.store(
      eventIndex ? UInt32(word(taken)) | 2 << 16 : 0, ordering: .relaxed)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return isAvailable(taken)
  }

  override func suppressKicks() {
    event(used).pointee.store(1 << 16, ordering: .relaxed)
  }
}
