internal import Linux
internal import Synchronization

/// How one ring's user marks what it has written (`DirtyLog`).
///
/// SAFETY: the record is a `LoggedRing`'s, which lives as long as the ring that has it in its state; the bits are those of
/// the log's mapping, and no byte behind them is touched.
@safe struct RingLog {
  struct Record {
    /// Where the log lies here, and its bytes.
    var bits: UInt
    var size: UInt64
    /// The guest's memory, by guest physical addresses.
    var regions: MemoryView
    /// Where the device area lies here, and the guest physical address at which it is to be marked as well.
    var device: UInt
    var logged: UInt64?
  }

  private let record: UnsafeMutablePointer<Record>

  init(_ record: UnsafeMutablePointer<Record>) { unsafe self.record = unsafe record }

  init?(address: UInt) {
    guard let record = unsafe UnsafeMutablePointer<Record>(bitPattern: address) else { return nil }
    unsafe self.record = unsafe record
  }

  var address: UInt { unsafe UInt(bitPattern: record) }

  /// Marks `length` bytes that lie here, at least one.
  @inline(never)
  func mark(host: UInt, _ length: Int) {
    let regions = unsafe record.pointee.regions
    var (host, left) = (host, UInt64(length))
    // What adjoins here may lie in several regions, and elsewhere in the guest.
    while left > 0 {
      guard let (address, there) = regions.guestAddress(host: host) else { return }
      let step = min(left, there)
      mark(address, step)
      host &+= UInt(truncatingIfNeeded: step)
      left &-= step
    }
  }

  /// Marks bytes `offset ..< offset + length` of the device area.
  @inline(never)
  func mark(deviceArea offset: Int, _ length: Int) {
    mark(host: unsafe record.pointee.device &+ UInt(offset), length)
    if let logged = unsafe record.pointee.logged {
      mark(logged &+ UInt64(offset), UInt64(length))
    }
  }

  /// Marks pages of guest physical memory; those that the log has no bits for are left out.
  private func mark(_ address: UInt64, _ length: UInt64) {
    let (bits, size) = unsafe (record.pointee.bits, record.pointee.size)
    var page = address / DirtyLog.page
    let last = (address &+ (length &- 1)) / DirtyLog.page
    while page <= last {
      let place = page &>> 3
      if place >= size { return }
      var mask: UInt8 = 0
      while page <= last, page &>> 3 == place {
        mask |= 1 &<< UInt8(truncatingIfNeeded: page & 7)
        page &+= 1
      }
      let byte = unsafe UnsafeMutablePointer<Atomic<UInt8>>(
        bitPattern: bits &+ UInt(truncatingIfNeeded: place)
      ).unsafelyUnwrapped
      unsafe byte.pointee.bitwiseOr(mask, ordering: .releasing)
    }
  }
}

extension RingLog {
  /// Marks frames that were placed in one buffer each.
  @inline(never)
  func mark(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, headerSize: UInt32
  ) {
    for position in 0..<count {
      let length = unsafe headerSize &+ burst.lengths[Int(order[position])]
      mark(host: unsafe burst.buffers[position], Int(length))
    }
  }

  /// Marks the first `length` bytes of the burst's targets.
  @inline(never)
  func mark(_ burst: Burst, pieces: Int, _ length: UInt32) {
    var left = length
    for number in 0..<pieces where left > 0 {
      let piece = unsafe burst.targets[number]
      let step = min(piece.length, left)
      if step > 0 { mark(host: piece.base, Int(step)) }
      left &-= step
    }
  }
}

extension MemoryView {
  /// The guest physical address of a byte that lies here, and how many bytes lie from it on in the same region; `nil`: it is
  /// none of the guest's.
  func guestAddress(host: UInt) -> (address: UInt64, left: UInt64)? {
    for index in 0..<count {
      let entry = unsafe entries[index]
      let offset = UInt64(host &- entry.host)
      if host >= entry.host, offset < entry.size {
        return (entry.start &+ offset, entry.size &- offset)
      }
    }
    return nil
  }
}

/// What a ring is logged by, made by control when it starts.
///
/// SAFETY: the record is freed with this object, which a ring's record keeps.
@safe final class LoggedRing: @unchecked Sendable {
  private let record: UnsafeMutablePointer<RingLog.Record>
  private let log: DirtyLog
  private let memory: GuestMemory

  /// Throws when a log is too small for what it is of, or the address at which the device area is to be marked leads
  /// nowhere.
  init(
    _ log: DirtyLog, _ setup: RingSetup, _ memory: GuestMemory, _ iotlb: IOTLB?,
    _ space: some RingSpace
  ) throws(DataplaneError) {
    guard log.covers(memory) else {
      throw DataplaneError(
        "a log of dirty pages of \(log.mapping.length) bytes is too small for the memory table")
    }
    let part = setup.parts[2]
    let device = unsafe UInt(bitPattern: try space.place(of: part))
    var logged = setup.logAddress
    if let address = logged, let iotlb {
      // It is translated as the ring's own address is, which it is with every front-end known.
      guard let place = unsafe iotlb.place(address, length: part.length, access: .write) else {
        throw DataplaneError("the log address 0x\(String(address, radix: 16)) is not translated")
      }
      logged = memory.view.guestAddress(host: UInt(bitPattern: place))?.address
    }
    // Marked there in any case.
    if logged == memory.view.guestAddress(host: device)?.address { logged = nil }
    if let address = logged, !log.covers(address, length: UInt64(part.length)) {
      throw DataplaneError("the log address 0x\(String(address, radix: 16)) lies outside the log")
    }
    self.log = log
    self.memory = memory
    unsafe record = .allocate(capacity: 1)
    unsafe record.initialize(
      to: RingLog.Record(
        bits: UInt(bitPattern: log.mapping.base), size: UInt64(log.mapping.length),
        regions: memory.view,
        device: device, logged: logged))
  }

  deinit { unsafe record.deallocate() }

  var view: RingLog { unsafe RingLog(record) }

  /// Marks all that a device writes of the ring itself: what a start has written, whatever it was.
  func markParts(_ setup: RingSetup, _ space: some RingSpace) throws(DataplaneError) {
    for part in setup.parts where part.access.contains(.write) {
      view.mark(host: unsafe UInt(bitPattern: try space.place(of: part)), part.length)
    }
    view.mark(deviceArea: 0, setup.parts[2].length)
  }
}
