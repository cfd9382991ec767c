internal import Linux

/// What the addresses of a ring's parts, and those in its descriptors, mean.
protocol RingSpace: AnyObject, Sendable {
  /// The table by which workers find buffers.
  var view: MemoryView { get }
  /// The address here of `length` bytes at `address`, or `nil` when they are not mapped in one piece.
  func host(_ address: UInt64, length: Int, access: DeviceAccess) -> UnsafeMutableRawPointer?
  /// Whether memory behind them was taken away.
  var hasVanished: Bool { get }
}

extension RingSpace {
  /// The address here of one part of a ring.
  func place(of part: RingSetup.Part) throws(DataplaneError) -> UnsafeMutableRawPointer {
    let name = "the \(part.name) at 0x\(String(part.address, radix: 16))"
    guard let place = unsafe host(part.address, length: part.length, access: part.access) else {
      throw DataplaneError(
        "\(name), \(part.length) bytes, is not mapped in one piece: it lies outside the memory table, or is scattered in it"
      )
    }
    // SAFETY: only the number of the address is looked at.
    // Both must be aligned: the driver's view by the specification, ours because the words are atomic.
    guard part.address % part.alignment == 0,
      UInt64(UInt(bitPattern: place)) % part.alignment == 0
    else { throw DataplaneError("\(name) is not aligned to \(part.alignment) bytes") }
    return unsafe place
  }
}

/// Without an IOMMU: a ring's parts are given as user addresses of the front-end, buffers as guest physical ones.
extension GuestMemory: RingSpace {
  func host(_ address: UInt64, length: Int, access: DeviceAccess) -> UnsafeMutableRawPointer? {
    unsafe host(user: address, length: length)
  }
}

/// Behind an IOMMU: all of them are device addresses.
final class DeviceSpace: RingSpace, @unchecked Sendable {
  let view: MemoryView
  private let iotlb: IOTLB
  /// What the IOTLB leads into.
  private let memory: GuestMemory

  init(_ iotlb: IOTLB, _ memory: GuestMemory, _ view: IOTLBView, isTransmitq: Bool) {
    self.iotlb = iotlb
    self.memory = memory
    self.view = view.connect(
      iotlb, access: isTransmitq ? .read : .write,
      frames: isTransmitq ? nil : iotlb.frames(of: view))
  }

  var hasVanished: Bool { memory.hasVanished }

  func host(_ address: UInt64, length: Int, access: DeviceAccess) -> UnsafeMutableRawPointer? {
    unsafe iotlb.place(address, length: length, access: access)
  }
}

extension RingSetup {
  /// A part of a ring in the guest's memory.
  struct Part {
    var name: String
    var address: UInt64
    var length: Int
    var alignment: UInt64
    /// What a device does there.
    var access: DeviceAccess
  }

  /// The three parts (virtio v1.4, 2.7 and 2.8): descriptors, driver area, device area.
  var parts: [Part] {
    packed
      ? [
        Part(
          name: "descriptor ring", address: descriptors, length: 16 * size, alignment: 16,
          access: [.read, .write]),
        Part(name: "driver area", address: avail, length: 4, alignment: 4, access: .read),
        Part(name: "device area", address: used, length: 4, alignment: 4, access: .write),
      ]
      : [
        Part(
          name: "descriptor table", address: descriptors, length: 16 * size, alignment: 16,
          access: .read),
        Part(
          name: "avail ring", address: avail, length: 6 + 2 * size, alignment: 2, access: .read),
        Part(name: "used ring", address: used, length: 6 + 8 * size, alignment: 4, access: .write),
      ]
  }

  /// What `iotlb` does not know of the ring's own parts; empty: the ring can start.
  public func misses(in iotlb: IOTLB) -> [TranslationMiss] {
    parts.flatMap { iotlb.missing($0.address, length: $0.length, access: $0.access) }
  }

  /// Whether a part of the ring has an address from `first` to `last`, both included.
  public func lies(from first: UInt64, through last: UInt64) -> Bool {
    parts.contains { part in
      part.address <= last && first - min(first, part.address) < UInt64(part.length)
    }
  }
}
