internal import CLinux

/// An indirect table that can't be read as an array of aligned words here: behind an IOMMU, whose pages may lie anywhere; at an
/// address that is no multiple of 8, which virtio allows (v1.4, 2.7.5.3); or across regions that adjoin for the guest only. Every word is
/// looked up by itself.
///
/// SAFETY: what is loaded lies in what the memory's table has just proved to be mapped.
@safe struct IndirectTable {
  private let memory: MemoryView
  private let address: UInt64
  /// Entries, of 16 bytes.
  let size: UInt32

  /// Regions that a table may lie in. Each costs a search among all of a port's, whatever few entries are used then.
  static let mostRegions = 8

  /// Why an entry can't be loaded.
  var fault: DropReason { memory.iotlb == nil ? .malformedDescriptor : .addressNotTranslated }

  /// `nil`: the table lies, in part, where the guest has no memory, or in more regions than any driver's.
  ///
  /// - Parameter size: 1 to 32,768.
  init?(_ memory: MemoryView, _ address: UInt64, size: UInt32) {
    self.memory = memory
    self.address = address
    self.size = size
    let (end, wraps) = address.addingReportingOverflow(16 * UInt64(size) - 1)
    if wraps { return nil }
    // What an IOMMU does not translate yet is found when it is needed, and waited for.
    if memory.iotlb != nil { return }
    var next = address
    for _ in 0..<IndirectTable.mostRegions {
      let rest = UInt32(truncatingIfNeeded: end &- next &+ 1)
      guard let part = unsafe memory.reach(next, rest) else { return nil }
      if unsafe part.length == rest { return }
      unsafe next &+= UInt64(part.length)
    }
    return nil
  }

  /// Loads both words of an entry, each of its bytes once; `nil` when that can't be.
  ///
  /// - Parameter index: below `size`.
  func entry(_ index: UInt32) -> (first: UInt64, second: UInt64)? {
    let place = address &+ 16 &* UInt64(index)
    guard let first = word(at: place), let second = word(at: place &+ 8) else { return nil }
    return (first, second)
  }

  private func word(at address: UInt64) -> UInt64? {
    var value: UInt64 = 0
    var done: UInt32 = 0
    while done < 8 {
      guard let part = unsafe reach(address &+ UInt64(done), 8 &- done) else { return nil }
      if unsafe part.length == 8 { return UInt64(littleEndian: unsafe clx_fetch64(part.base)) }
      for place in 0..<(unsafe part.length) {
        let byte = unsafe UInt64(clx_fetch8(part.base + Int(place)))
        value |= byte &<< UInt64(8 &* (done &+ place))
      }
      unsafe done &+= part.length
    }
    return value
  }

  /// A table is read, whatever the buffers are for.
  private func reach(_ address: UInt64, _ length: UInt32) -> (
    base: UnsafeMutableRawPointer, length: UInt32
  )? {
    if let iotlb = memory.iotlb { return unsafe iotlb.reach(address, length, .read) }
    return unsafe memory.reach(address, length)
  }
}
