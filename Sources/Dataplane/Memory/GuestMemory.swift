internal import CVector
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

/// The way from guest physical addresses to this process's, as a worker walks it; behind an IOMMU, from device
/// addresses.
@safe struct MemoryView {
  struct Entry {
    var start: UInt64
    var size: UInt64
    var host: UInt

    /// Whether `length` bytes from guest physical `address` lie inside the region. Written so that nothing
    /// can wrap: offset < size is known before it is subtracted.
    @inline(always)
    func covers(_ address: UInt64, _ length: UInt32) -> Bool {
      let offset = address &- start
      return offset < size && UInt64(length) <= size &- offset
    }

    /// The region as vector code sees it.
    @inline(always)
    var vector: cvx_region { cvx_region(start: start, size: size, host: UInt64(host)) }

    /// The address here of a guest physical address that the region covers.
    @inline(always)
    func place(_ address: UInt64) -> UInt {
      host &+ UInt(truncatingIfNeeded: address &- start)
    }
  }

  let entries: UnsafeMutablePointer<Entry>
  let count: Int

  /// The region that a hint names, for a loop that keeps it in registers.
  @inline(always)
  func lookup(hint: Int) -> Entry {
    // SAFETY: `hint` is 0 or an index that `find` returned; a table has at least one entry.
    unsafe entries[hint]
  }

  /// The address here of guest physical `address`, when `length` bytes from it lie inside one region;
  /// otherwise `nil`. CVE-2018-1059 is what comes of checking only the first byte.
  ///
  /// - Parameter hint: index of the region that was hit last; most addresses hit it again.
  @inline(always)
  func translate(_ address: UInt64, _ length: UInt32, hint: inout Int) -> UnsafeMutableRawPointer? {
    let entry = lookup(hint: hint)
    if entry.covers(address, length) {
      return unsafe UnsafeMutableRawPointer(bitPattern: entry.place(address))
    }
    return unsafe find(address, length, hint: &hint)
  }

  @inline(never)
  private func find(
    _ address: UInt64, _ length: UInt32, hint: inout Int
  ) -> UnsafeMutableRawPointer? {
    var index = 0
    while index < count {
      let entry = unsafe entries[index]
      if entry.covers(address, length) {
        hint = index
        return unsafe UnsafeMutableRawPointer(bitPattern: entry.place(address))
      }
      index &+= 1
    }
    return nil
  }

  /// The address here of guest physical `address` and how many bytes lie behind it in the same region, at
  /// most `length`; for buffers that run from one region into the next.
  @inline(never)
  func reach(_ address: UInt64, _ length: UInt32) -> (
    base: UnsafeMutableRawPointer, length: UInt32
  )? {
    var index = 0
    while index < count {
      let entry = unsafe entries[index]
      let offset = address &- entry.start
      if offset < entry.size,
        let base = unsafe UnsafeMutableRawPointer(
          bitPattern: entry.host &+ UInt(truncatingIfNeeded: offset))
      {
        let rest = min(UInt64(length), entry.size &- offset)
        return unsafe (base, UInt32(truncatingIfNeeded: rest))
      }
      index &+= 1
    }
    guard let iotlb else { return nil }
    return unsafe iotlb.reach(address, length)
  }

  /// The IOTLB to be asked, when that is what there is instead of regions.
  @inline(always)
  var iotlb: IOTLBView? {
    guard count == 0 else { return nil }
    // SAFETY: a table without regions comes from `IOTLBView.connect`, which has put the block's address there.
    return unsafe IOTLBView(
      UnsafeMutableRawPointer(bitPattern: entries[0].host).unsafelyUnwrapped)
  }
}
