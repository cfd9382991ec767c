public import Linux

/// A front-end's log of dirty pages: a bit for each 4 KiB of guest physical memory, which says that something was written
/// there since the front-end took it away last (vhost-user.rst, "Migration").
///
/// # Theory of operation
///
/// While a guest migrates, its front-end copies its memory and asks again and again which pages have changed. What the
/// guest's own processor writes it sees itself; what a device writes, the device marks. A ring that is logged has a
/// `RingLog`, which its user finds in the queue's state: buffers that were filled are marked by their addresses here, of
/// which the memory table tells the guest physical ones; the ring's own parts where they lie, and also where SET_VRING_ADDR
/// says that they shall be marked. So behind an IOMMU nothing else holds than without.
///
/// A page is marked after it was written: who takes the mark away before has another coming, who takes it away afterwards
/// sees what was written. A locked instruction sets the bits, and orders the writes before them. When a ring has been
/// stopped every mark has been made, as a burst is marked before its turn ends.
///
/// Without a log a burst costs a test of one word for what is delivered and one for what is shown.
public final class DirtyLog: @unchecked Sendable {
  /// VHOST_LOG_PAGE: bytes of guest physical memory that a bit stands for.
  public static let page: UInt64 = 4096

  let mapping: Mapping

  /// - Parameter mapping: exactly the log, as SET_LOG_BASE describes it.
  public init(_ mapping: Mapping) { self.mapping = mapping }

  /// Whether the front-end has taken away a page of it that was needed: marks are lost.
  public var hasVanished: Bool { mapping.hasVanished }

  /// Whether it has a bit for every page of `length` bytes at a guest physical address; no bytes have none.
  public func covers(_ address: UInt64, length: UInt64) -> Bool {
    if length == 0 { return true }
    let (last, overflow) = address.addingReportingOverflow(length - 1)
    return !overflow && last / DirtyLog.page / 8 < UInt64(mapping.length)
  }

  /// Whether it has a bit for every page of a guest's memory.
  public func covers(_ memory: GuestMemory) -> Bool {
    memory.regions.allSatisfy { covers($0.guestAddress, length: UInt64($0.mapping.length)) }
  }
}
