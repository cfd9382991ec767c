internal import CVector

/// The way from guest physical addresses to this process's, as a worker walks it; behind an IOMMU, from device
/// addresses.
///
/// # Theory of operation
///
/// Here lives memory: the guests', as front-ends share it (`GuestMemory`, and with an IOMMU `IOTLB` and what belongs to
/// it), and the data plane's own (`Arena`). Control maps, translates and keeps; a worker gets a `MemoryView`, a few words
/// that never change while a ring that has them runs. No address that a guest names is used before the view has said
/// that all its bytes are mapped, and where; and what a translation led to is used no longer than the turn in which it
/// was made. A mapping goes when no ring has a view of it any more. Its pages may go at any time, as they are the
/// front-end's: `Mapping` in module Linux puts zeros in their place.
///
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
