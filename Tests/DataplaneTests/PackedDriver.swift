import Linux

@testable import Dataplane

/// A driver's hands on a packed ring (virtio v1.4, 2.8) in a `RingMemory`. Places are plain counts of descriptors
/// since the ring was new; index and wrap counter are worked out from them each time.
final class PackedDriver {
  struct Part {
    var offset: Int
    var length: Int
    var writable = false
  }

  let memory: RingMemory
  let size: Int
  /// Descriptors made available, and descriptors whose used elements were taken.
  private(set) var made: Int
  private(set) var passed: Int

  /// - Parameter start: where the ring begins, in descriptors; 0 to 2 × size − 1.
  init(size: Int, start: Int = 0, bytes: Int = 1 << 20, extra: [MappedRegion] = []) throws {
    memory = try RingMemory(size: size, bytes: bytes, extra: extra)
    self.size = size
    made = start
    passed = start
    // What the laps before left behind.
    for index in 0..<size {
      let lap = start / size - (index < start % size ? 0 : 1)
      writeRaw(index, address: 0, length: 0, flags: lap == 0 ? 0x8080 : 0)
    }
  }

  func setup(
    inOrder: Bool = false, eventIndex: Bool = false, indirect: Bool = true,
    mergeable: Bool = true, call: OwnedFD? = nil
  ) -> RingSetup {
    var setup = memory.setup(
      base: UInt32(word(made)), eventIndex: eventIndex, indirect: indirect, mergeable: mergeable,
      call: call)
    setup.packed = true
    setup.inOrder = inOrder
    return setup
  }

  func wrap(_ place: Int) -> Bool { place / size % 2 == 0 }

  func word(_ place: Int) -> UInt16 { UInt16(place % size) | (wrap(place) ? 0x8000 : 0) }

  // ---- Available ----

  /// Writes a descriptor at `place`; with `flags` as they are, AVAIL and USED included.
  func writeRaw(
    _ place: Int, address: UInt64, length: UInt32, id: UInt16 = 0, flags: UInt16
  ) {
    let at = 16 * (place % size)
    memory.mapping.base.storeBytes(of: address, toByteOffset: at, as: UInt64.self)
    memory.mapping.base.storeBytes(of: length, toByteOffset: at + 8, as: UInt32.self)
    memory.mapping.base.storeBytes(of: id, toByteOffset: at + 12, as: UInt16.self)
    memory.mapping.base.storeBytes(of: flags, toByteOffset: at + 14, as: UInt16.self)
  }

  /// Makes the next descriptor available.
  func write(address: UInt64, length: UInt32, id: UInt16 = 0, flags: UInt16 = 0) {
    writeRaw(
      made, address: address, length: length, id: id, flags: flags | (wrap(made) ? 0x80 : 0x8000))
    made += 1
  }

  /// Makes a chain available.
  func offer(_ parts: [Part], id: UInt16) {
    for (index, part) in parts.enumerated() {
      write(
        address: memory.address(part.offset), length: UInt32(part.length), id: id,
        flags: (part.writable ? 2 : 0) | (index == parts.count - 1 ? 0 : 1))
    }
  }

  /// Makes a chain in an indirect table available. Flags that mean nothing in a table are set all the same, and so
  /// is WRITE where it means nothing (2.8.7).
  func offerIndirect(_ parts: [Part], id: UInt16, table place: Int? = nil) {
    let table = place ?? memory.allocate(16 * parts.count, alignment: 16)
    for (index, part) in parts.enumerated() {
      memory.describe(
        index, address: memory.address(part.offset), length: UInt32(part.length),
        flags: 0xFFFF, next: 0xFF7D | (part.writable ? 2 : 0), table: table)
    }
    write(
      address: memory.address(table), length: UInt32(16 * parts.count), id: id, flags: 4 | 2)
  }

  /// One descriptor with a virtio-net header of zeroes and `frame`.
  func send(_ frame: [UInt8], id: UInt16 = 0) {
    let place = memory.allocate(12 + frame.count)
    memory.write([UInt8](repeating: 0, count: 12) + frame, at: place)
    offer([Part(offset: place, length: 12 + frame.count)], id: id)
  }

  // ---- Used ----

  struct Used: Equatable {
    var id: UInt16
    var length: UInt32
    var isWritten: Bool
  }

  /// The used element where the driver looks for one.
  var used: Used? { used(at: passed) }

  func used(at place: Int) -> Used? {
    let at = 16 * (place % size)
    let flags = memory.mapping.base.load(fromByteOffset: at + 14, as: UInt16.self)
    guard flags & 0x8080 == (wrap(place) ? 0x8080 : 0) else { return nil }
    return Used(
      id: memory.mapping.base.load(fromByteOffset: at + 12, as: UInt16.self),
      length: memory.mapping.base.load(fromByteOffset: at + 8, as: UInt32.self),
      isWritten: flags & 2 != 0)
  }

  /// Passes over the descriptors of a buffer that was used.
  func pass(_ slots: Int) { passed += slots }

  // ---- Events ----

  /// What the device wants to hear of: flags, and the place if they say so.
  var deviceEvent: (flags: UInt16, word: UInt16) {
    (
      memory.mapping.base.load(fromByteOffset: memory.used + 2, as: UInt16.self),
      memory.mapping.base.load(fromByteOffset: memory.used, as: UInt16.self)
    )
  }

  func setDriverEvent(_ flags: UInt16, _ word: UInt16 = 0) {
    memory.mapping.base.storeBytes(of: word, toByteOffset: memory.avail, as: UInt16.self)
    memory.mapping.base.storeBytes(of: flags, toByteOffset: memory.avail + 2, as: UInt16.self)
  }
}

extension Bench {
  func queue(
    _ driver: PackedDriver, _ setup: RingSetup? = nil, isTransmitq: Bool = true
  ) throws -> PackedQueue {
    let setup = setup ?? driver.setup()
    state.setCall(setup.call)
    return try PackedQueue(
      setup, isTransmitq: isTransmitq, memory: driver.memory.memory, state: state)
  }
}
