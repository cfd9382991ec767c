import CLinux
import Glibc
import Linux

@testable import Dataplane

extension Virtqueue {
  /// Interrupts the driver as a worker does when its turn ends.
  mutating func notify() {
    let call = interrupt()
    if call >= 0 { clx_eventfd_signal(call) }
  }
}

extension Dataplane {
  /// Starts one ring.
  func startRing(
    _ index: Int, of port: Int, _ setup: RingSetup, memory: GuestMemory, worker: Int
  ) throws {
    let start = QueueStart(index, .ring(setup, memory: memory), worker: worker)
    if let error = startQueues([start], of: port)[0] { throw error }
  }

  /// Stops one ring.
  func stopRing(_ index: Int, of port: Int) -> UInt32? { stopQueues([index], of: port)[0] }
}

/// Guest memory with one split ring in it, and a driver's hands: every word can be poked, right or wrong.
final class RingMemory {
  static let guestBase: UInt64 = 0x10_0000
  static let userBase: UInt64 = 0x7000_0000

  let mapping: Mapping
  let memory: GuestMemory
  let size: Int
  /// Offsets of the ring's parts, and where buffers begin.
  let avail: Int
  let used: Int
  let buffers: Int
  private var nextBuffer: Int

  init(size: Int = 8, bytes: Int = 1 << 20, extra: [MappedRegion] = []) throws {
    let file = OwnedFD(taking: try SystemError.check(clx_memfd("ring", 0), "memfd"))
    ftruncate(file.raw, bytes)
    mapping = try Mapping(sharing: file, offset: 0, length: UInt64(bytes))
    memory = GuestMemory(
      [
        MappedRegion(
          guestAddress: RingMemory.guestBase, userAddress: RingMemory.userBase, mapping: mapping)
      ] + extra)
    self.size = size
    avail = 16 * size
    used = (avail + 6 + 2 * size + 63) / 64 * 64
    buffers = (used + 6 + 8 * size + 4095) / 4096 * 4096
    nextBuffer = buffers
  }

  func setup(
    base: UInt32 = 0, eventIndex: Bool = false, indirect: Bool = true, mergeable: Bool = true,
    version1: Bool = true, enabled: Bool = true, call: OwnedFD? = nil
  ) -> RingSetup {
    RingSetup(
      size: size, descriptors: RingMemory.userBase, avail: RingMemory.userBase + UInt64(avail),
      used: RingMemory.userBase + UInt64(used), base: base, eventIndex: eventIndex,
      indirect: indirect, mergeable: mergeable, version1: version1, enabled: enabled, kick: nil,
      call: call)
  }

  /// Reserves bytes of guest memory; returns the offset.
  func allocate(_ bytes: Int, alignment: Int = 64) -> Int {
    let offset = (nextBuffer + alignment - 1) / alignment * alignment
    nextBuffer = offset + bytes
    precondition(nextBuffer <= mapping.length)
    return offset
  }

  func address(_ offset: Int) -> UInt64 { RingMemory.guestBase + UInt64(offset) }

  func write(_ bytes: [UInt8], at offset: Int) {
    for (index, byte) in bytes.enumerated() {
      mapping.base.storeBytes(of: byte, toByteOffset: offset + index, as: UInt8.self)
    }
  }

  func read(_ offset: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { mapping.base.load(fromByteOffset: offset + $0, as: UInt8.self) }
  }

  func describe(
    _ index: Int, address: UInt64, length: UInt32, flags: UInt16 = 0, next: UInt16 = 0,
    table: Int = 0
  ) {
    let at = table + 16 * index
    mapping.base.storeBytes(of: address, toByteOffset: at, as: UInt64.self)
    mapping.base.storeBytes(of: length, toByteOffset: at + 8, as: UInt32.self)
    mapping.base.storeBytes(of: flags, toByteOffset: at + 12, as: UInt16.self)
    mapping.base.storeBytes(of: next, toByteOffset: at + 14, as: UInt16.self)
  }

  var availIndex: UInt16 {
    get { mapping.base.load(fromByteOffset: avail + 2, as: UInt16.self) }
    set { mapping.base.storeBytes(of: newValue, toByteOffset: avail + 2, as: UInt16.self) }
  }

  func offer(_ heads: UInt16...) {
    for head in heads {
      let place = avail + 4 + 2 * (Int(availIndex) % size)
      mapping.base.storeBytes(of: head, toByteOffset: place, as: UInt16.self)
      availIndex &+= 1
    }
  }

  var usedIndex: UInt16 {
    get { mapping.base.load(fromByteOffset: used + 2, as: UInt16.self) }
    set { mapping.base.storeBytes(of: newValue, toByteOffset: used + 2, as: UInt16.self) }
  }
  var usedEvent: UInt16 {
    get { mapping.base.load(fromByteOffset: avail + 4 + 2 * size, as: UInt16.self) }
    set {
      mapping.base.storeBytes(of: newValue, toByteOffset: avail + 4 + 2 * size, as: UInt16.self)
    }
  }
  var usedFlags: UInt16 { mapping.base.load(fromByteOffset: used, as: UInt16.self) }

  func usedEntry(_ index: Int) -> (id: UInt32, length: UInt32) {
    let place = used + 4 + 8 * (index % size)
    return (
      mapping.base.load(fromByteOffset: place, as: UInt32.self),
      mapping.base.load(fromByteOffset: place + 4, as: UInt32.self)
    )
  }

  /// One descriptor with a virtio-net header of zeroes and `frame`, made available.
  @discardableResult
  func send(_ frame: [UInt8], descriptor: Int = 0, header: [UInt8] = .init(repeating: 0, count: 12))
    -> Int
  {
    let place = allocate(header.count + frame.count)
    write(header + frame, at: place)
    describe(descriptor, address: address(place), length: UInt32(header.count + frame.count))
    offer(UInt16(descriptor))
    return place
  }
}

/// A burst and counters of its own, for driving a queue by hand.
final class Bench {
  let arena = Arena(node: 0, allowHuge: false)
  let burst: Burst
  let state: QueueState
  var counters: Counters { state.counters }

  init(vectors: Bool = true) throws {
    burst = try Burst(arena: arena, vectors: vectors)
    state = QueueState(try arena.allocate(bytes: QueueState.byteCount))
    state.begin()
  }

  func queue(_ memory: RingMemory, _ setup: RingSetup? = nil) throws -> SplitQueue {
    let setup = setup ?? memory.setup()
    state.setCall(setup.call)
    return try SplitQueue(setup, memory: memory.memory, state: state)
  }

  /// Takes a burst and judges it, as a worker does. Returns the frames taken, and the bytes of those that live.
  func gather(_ queue: inout some Virtqueue) -> (frames: Int, bytes: Int) {
    gathered = queue.gather(burst)
    if gathered.frames == 0 { return (0, 0) }
    let judged = burst.judge(&gathered, headerSize: queue.headerSize, allowed: .none, counters)
    return (gathered.frames, judged.bytes)
  }

  /// What the last `gather` found.
  private(set) var gathered = Gathered()

  func isDropped(_ index: Int) -> Bool { gathered.dropped >> UInt64(index) & 1 != 0 }

  /// Delivers frames 0 ..< `count` of the burst.
  func deliver(_ queue: inout some Virtqueue, count: Int = 1, limit: UInt32 = 65_550) -> Delivered {
    queue.deliver(burst, burst.natural, count, limit: limit)
  }

  /// Makes frame `index` of the burst a view of private bytes.
  func hold(_ bytes: [UInt8], at index: Int) {
    let copy = UnsafeMutableRawPointer.allocate(byteCount: bytes.count + 16, alignment: 64)
    bytes.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    burst.headers[index] = EthernetHeader(
      first: copy.loadUnaligned(as: UInt64.self),
      second: copy.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    burst.addresses[index] = UInt(bitPattern: copy)
    burst.lengths[index] = UInt32(bytes.count)
  }

  /// The bytes of a gathered frame, as delivery would read them.
  func bytes(_ index: Int) -> [UInt8] {
    if let base = UnsafeRawPointer(bitPattern: burst.addresses[index]) {
      return (0..<Int(burst.lengths[index])).map {
        base.load(fromByteOffset: $0, as: UInt8.self)
      }
    }
    let extent = burst.extents[index]
    return (0..<Int(extent.count)).flatMap { number in
      let piece = burst.pieces[Int(extent.first) + number]
      let base = UnsafeRawPointer(bitPattern: piece.base)!
      return (0..<Int(piece.length)).map { base.load(fromByteOffset: $0, as: UInt8.self) }
    }
  }
}

/// A frame of `length` bytes with given addresses and a payload that shows its order.
func frame(
  to destination: [UInt8] = [2, 0, 0, 0, 0, 2], from source: [UInt8] = [2, 0, 0, 0, 0, 1],
  length: Int = 64, seed: UInt8 = 0
) -> [UInt8] {
  var bytes = destination + source + [0x88, 0xB5]
  while bytes.count < length { bytes.append(UInt8(truncatingIfNeeded: bytes.count) &+ seed) }
  return Array(bytes.prefix(length))
}
