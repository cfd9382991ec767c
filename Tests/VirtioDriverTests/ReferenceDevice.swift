import Linux
import Synchronization

@testable import VirtioDriver

/// A split-ring device, naive and obviously correct: one chain at a time, nothing cached, every address
/// translated anew. It shares no code with the driver but the descriptor's layout.
class ReferenceDevice {
  struct Chain {
    /// What the used entry names: the head, or the buffer id of a packed ring.
    var head: UInt16
    var readable: [Piece] = []
    var writable: [Piece] = []
    var descriptors = 0
    var tables = 0
  }

  let size: Int
  let eventIndex: Bool
  let descriptors: UnsafeMutableRawPointer
  let avail: UnsafeMutableRawPointer
  let used: UnsafeMutableRawPointer
  let translate: (UInt64, Int) -> UnsafeMutableRawPointer
  let call: OwnedFD?
  var lastAvail: UInt16
  var usedIndex: UInt16
  var interrupts = 0

  required init(
    size: Int, descriptors: UnsafeMutableRawPointer, avail: UnsafeMutableRawPointer,
    used: UnsafeMutableRawPointer, eventIndex: Bool, base: UInt32 = 0, call: OwnedFD? = nil,
    translate: @escaping (UInt64, Int) -> UnsafeMutableRawPointer
  ) {
    self.size = size
    self.descriptors = descriptors
    self.avail = avail
    self.used = used
    self.eventIndex = eventIndex
    self.translate = translate
    self.call = call
    lastAvail = UInt16(truncatingIfNeeded: base)
    usedIndex = 0
    usedIndex = ReferenceDevice.word(used, 2).pointee.load(ordering: .relaxed)
  }

  /// A device on the driver's own mapping.
  convenience init(_ ring: borrowing DriverRing, _ memory: GuestMemory) {
    self.init(
      size: ring.size, descriptors: ring.parts.descriptors.pointer,
      avail: ring.parts.avail.pointer, used: ring.parts.used.pointer,
      eventIndex: ring.options.eventIndex,
      base: ring.options.packed ? PackedReferenceDevice.fresh : 0, call: ring.callEvent.descriptor
    ) { address, length in
      memory.buffer(at: address, length: length)!.pointer
    }
  }

  static func word(
    _ base: UnsafeMutableRawPointer, _ offset: Int
  ) -> UnsafeMutablePointer<Atomic<UInt16>> {
    (base + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
  }

  var availIndex: UInt16 {
    ReferenceDevice.word(avail, 2).pointee.load(ordering: .acquiring)
  }

  /// Where a device that goes on here begins.
  var base: UInt32 { UInt32(lastAvail) }

  /// The next available chain, walked by the book (2.7.5).
  func next() -> Chain? {
    if availIndex == lastAvail { return nil }
    let slot = Int(lastAvail) % size
    let head = ReferenceDevice.word(avail, 4 + 2 * slot).pointee.load(ordering: .relaxed)
    lastAvail &+= 1
    var chain = Chain(head: head)
    walk(descriptors, Int(head), &chain)
    return chain
  }

  func walk(_ table: UnsafeMutableRawPointer, _ first: Int, _ chain: inout Chain) {
    var index = first
    while true {
      let at = table + 16 * index
      let piece = Piece(at.load(as: UInt64.self), (at + 8).load(as: UInt32.self))
      let flags = (at + 12).load(as: UInt16.self)
      chain.descriptors += 1
      precondition(chain.descriptors <= 2 * size + 64, "a loop")
      if flags & 4 != 0 {
        chain.tables += 1
        walk(translate(piece.address, Int(piece.length)), 0, &chain)
        return
      }
      if flags & 2 != 0 {
        chain.writable.append(piece)
      } else {
        precondition(chain.writable.isEmpty, "readable after writable")
        chain.readable.append(piece)
      }
      if flags & 1 == 0 { return }
      index = Int((at + 14).load(as: UInt16.self))
    }
  }

  func read(_ chain: Chain) -> [UInt8] {
    chain.readable.flatMap { piece in
      [UInt8](
        UnsafeRawBufferPointer(
          start: translate(piece.address, Int(piece.length)), count: Int(piece.length)))
    }
  }

  /// Writes as much of `bytes` as the chain takes; returns the number.
  func write(_ bytes: [UInt8], to chain: Chain) -> Int {
    var offset = 0
    for piece in chain.writable {
      let count = min(bytes.count - offset, Int(piece.length))
      let target = translate(piece.address, Int(piece.length))
      bytes.withUnsafeBytes { source in
        if count > 0 {
          target.copyMemory(from: source.baseAddress! + offset, byteCount: count)
        }
      }
      offset += count
    }
    return offset
  }

  /// Writes a used entry; `publish` shows it.
  func complete(_ head: UInt32, _ length: Int) {
    let entry = used + 4 + 8 * (Int(usedIndex) % size)
    entry.storeBytes(of: head, as: UInt32.self)
    (entry + 4).storeBytes(of: UInt32(length), as: UInt32.self)
    usedIndex &+= 1
  }

  /// Writes one used entry for several chains, as IN_ORDER allows (2.7.9): that of the last.
  func completeTogether(_ heads: [UInt16], _ length: Int) {
    guard let last = heads.last else { return }
    complete(UInt32(last), length)
    usedIndex &+= UInt16(heads.count - 1)
  }

  /// Shows the used entries and interrupts by the book (2.7.7.2).
  func publish() {
    let index = ReferenceDevice.word(used, 2)
    let old = index.pointee.load(ordering: .relaxed)
    index.pointee.store(usedIndex, ordering: .releasing)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    var wanted = false
    if eventIndex {
      let event = ReferenceDevice.word(avail, 4 + 2 * size).pointee.load(ordering: .relaxed)
      var passed = old
      while passed != usedIndex {
        if passed == event { wanted = true }
        passed &+= 1
      }
    } else {
      wanted = ReferenceDevice.word(avail, 0).pointee.load(ordering: .relaxed) & 1 == 0
    }
    if wanted {
      interrupts += 1
      if let call { Notifier.signal(call) }
    }
  }

  /// Asks for a kick at the next buffer; returns whether there is one already.
  func requestKicks() -> Bool {
    if eventIndex {
      ReferenceDevice.word(used, 4 + 8 * size).pointee.store(lastAvail, ordering: .relaxed)
    } else {
      ReferenceDevice.word(used, 0).pointee.store(0, ordering: .relaxed)
    }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return availIndex != lastAvail
  }

  func suppressKicks() {
    if !eventIndex { ReferenceDevice.word(used, 0).pointee.store(1, ordering: .relaxed) }
  }
}
