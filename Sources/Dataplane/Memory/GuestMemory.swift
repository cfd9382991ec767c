public import Linux

/// A region of guest memory as a front-end shared it and this process mapped it.
public struct MappedRegion: Sendable {
  /// Guest physical address of the first byte.
  public var guestAddress: UInt64
  /// Address of the first byte in the front-end's own address space; ring addresses are given in it.
  public var userAddress: UInt64
  /// Exactly the region: its `length` is the region's size.
  public var mapping: Mapping

  public init(guestAddress: UInt64, userAddress: UInt64, mapping: Mapping) {
    self.guestAddress = guestAddress
    self.userAddress = userAddress
    self.mapping = mapping
  }
}

/// One guest's memory: what keeps it mapped, and the table by which workers find their way in it. It does
/// not change; a new memory table is a new object.
///
/// SAFETY: the table has an entry for each region; the mappings live as long as this object.
@safe public final class GuestMemory: @unchecked Sendable {
  public let regions: [MappedRegion]
  /// The table that the rings read.
  let view: MemoryView

  /// - Parameter regions: at least one; they overlap neither in guest nor in user addresses (the protocol
  ///   layer has checked).
  public init(_ regions: [MappedRegion]) {
    self.regions = regions.sorted { $0.guestAddress < $1.guestAddress }
    let table = UnsafeMutablePointer<MemoryView.Entry>.allocate(capacity: max(1, regions.count))
    for (index, region) in self.regions.enumerated() {
      unsafe (table + index).initialize(
        to: MemoryView.Entry(
          start: region.guestAddress, size: UInt64(region.mapping.length),
          host: UInt(bitPattern: region.mapping.base)))
    }
    view = unsafe MemoryView(entries: table, count: regions.count)
  }

  deinit {
    unsafe view.entries.deallocate()
  }

  /// Whether the front-end has taken away a page of it that was needed.
  public var hasVanished: Bool { regions.contains(where: \.mapping.hasVanished) }

  /// NUMA node of the page at a front-end user address: of a ring, say, which its driver has touched, so
  /// that asking brings no page to life. `nil` when the address is not the guest's or nobody knows.
  public func node(user address: UInt64) -> Int? {
    guard let place = unsafe host(user: address, length: 1) else { return nil }
    return unsafe NUMA.node(of: place)
  }

  /// The address here of `length` bytes at a front-end user address, or `nil` when they do not lie inside
  /// one region. For the rings' own parts (vhost-user: SET_VRING_ADDR).
  func host(user address: UInt64, length: Int) -> UnsafeMutableRawPointer? {
    guard length > 0, let piece = unsafe reach(user: address, length: UInt64(length)),
      unsafe piece.length == UInt64(length)
    else { return nil }
    return unsafe piece.base
  }

  /// The address here of a front-end user address, and how many bytes lie behind it in the same region, at most
  /// `length`; `nil` when it is in none.
  func reach(
    user address: UInt64, length: UInt64
  ) -> (base: UnsafeMutableRawPointer, length: UInt64)? {
    for region in regions where address >= region.userAddress {
      let offset = address - region.userAddress
      let size = UInt64(region.mapping.length)
      if offset < size {
        return unsafe (region.mapping.base + Int(offset), min(length, size - offset))
      }
    }
    return nil
  }
}
