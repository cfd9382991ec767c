internal import Linux

/// The requests that concern memory: the guest's, and the log of what was written to it.
extension Session {
  /// As many descriptors as one message can bring.
  private static let maximumTable = 32

  func setMemTable(
    _ payload: [UInt8], _ descriptors: [OwnedFD]
  ) throws(ProtocolError) -> Outcome {
    let described = MemoryTable(payload)?.regions ?? []
    let limit = min(backend.memorySlots, Session.maximumTable)
    guard (1...limit).contains(described.count) else {
      throw .refused(.setMemTable, "\(described.count) regions, not 1…\(limit)")
    }
    var table: [GuestRegion] = []
    for (region, file) in zip(described, descriptors) {
      try append(region, file, to: &table, .setMemTable)
    }
    let outcome = try replaceMemory(by: table, .setMemTable)
    repeatedRegions = [:]
    return outcome
  }

  func getMaxMemSlots() throws(ProtocolError) -> Outcome {
    try require(.configureMemSlots, for: .getMaxMemSlots)
    return .reply(UInt64(backend.memorySlots).bytes)
  }

  func addMemReg(_ region: RegionDescription, _ file: OwnedFD) throws(ProtocolError) -> Outcome {
    try require(.configureMemSlots, for: .addMemReg)
    // QEMU 7.2 adds, and later removes, each region once for every queue pair. The same region again is the
    // same memory: it is counted, and goes when it has been removed as often.
    if let place = place(of: region) {
      repeatedRegions[regions[place].guestAddress, default: 0] += 1
      return .done
    }
    guard regions.count < backend.memorySlots else {
      throw .refused(
        .addMemReg, "all \(backend.memorySlots) memory slots are taken: this port may have no more")
    }
    var table = regions
    try append(region, file, to: &table, .addMemReg)
    _ = try replaceMemory(by: table, .addMemReg)
    // A ring that lacks another region yet is no fault of this message.
    return .done
  }

  /// A region is known by guest address, user address and size; its offset is ignored (E87).
  func remMemReg(_ region: RegionDescription) throws(ProtocolError) -> Outcome {
    try require(.configureMemSlots, for: .remMemReg)
    guard let place = place(of: region) else {
      throw .refused(
        .remMemReg, "no region of \(region.size) bytes at guest address \(region.guestAddress)")
    }
    if let repeats = repeatedRegions[region.guestAddress] {
      repeatedRegions[region.guestAddress] = repeats > 1 ? repeats - 1 : nil
      return .done
    }
    var table = regions
    table.remove(at: place)
    _ = try replaceMemory(by: table, .remMemReg)
    // Rings that lay in it don't start again; the front-end asked for that (HP-11).
    return .done
  }

  private func place(of region: RegionDescription) -> Int? {
    regions.firstIndex {
      $0.guestAddress == region.guestAddress && $0.userAddress == region.userAddress
        && $0.size == region.size
    }
  }

  /// Adds a region to a table that is in order, if it stays so.
  private func append(
    _ region: RegionDescription, _ file: OwnedFD, to table: inout [GuestRegion],
    _ request: Request
  ) throws(ProtocolError) {
    let what = "the region of \(region.size) bytes at guest address \(region.guestAddress)"
    guard region.size > 0 else { throw .refused(request, "\(what) is empty") }
    // It is the last byte that must have an address: a region may end with the address space.
    for start in [region.guestAddress, region.userAddress, region.mmapOffset] {
      guard !start.addingReportingOverflow(region.size - 1).overflow else {
        throw .refused(request, "\(what) wraps")
      }
    }
    // Files without content cost a front-end nothing, but addresses are what all ports share, and page tables are this
    // process's. Regions that are there are no larger, so that the sum can't overflow.
    let limit = backend.memoryLimit
    guard region.size <= limit, table.reduce(region.size, { $0 + $1.size }) <= limit else {
      throw .refused(
        request, "\(what) makes more than the \(limit >> 20) MiB of memory that this port may have")
    }
    for other in table {
      let overlaps =
        Session.overlap(region.guestAddress, region.size, other.guestAddress, other.size)
        || Session.overlap(region.userAddress, region.size, other.userAddress, other.size)
      if overlaps {
        throw .refused(request, "\(what) overlaps the one at \(other.guestAddress)")
      }
    }
    table.append(
      GuestRegion(
        guestAddress: region.guestAddress, size: region.size, userAddress: region.userAddress,
        mmapOffset: region.mmapOffset, file: file))
  }

  /// Whether two ranges, neither empty nor wrapping, share a byte.
  private static func overlap(_ a: UInt64, _ aSize: UInt64, _ b: UInt64, _ bSize: UInt64) -> Bool {
    a <= b + (bSize - 1) && b <= a + (aSize - 1)
  }

  private func replaceMemory(
    by table: [GuestRegion], _ request: Request
  ) throws(ProtocolError) -> Outcome {
    try reconfigure(rings.indices) { () throws(ProtocolError) in
      do throws(BackendError) {
        try backend.setMemory(table)
      } catch {
        throw .refused(request, error.message)
      }
      regions = table
      onEvent(
        .memoryChanged(
          regions: table.count, bytes: table.reduce(0) { $0.addingReportingOverflow($1.size).0 }))
    }
  }

  /// With LOG_SHMFD negotiated this message has its own reply, with or without need_reply (E89).
  func setLogBase(_ payload: [UInt8], _ file: OwnedFD?) throws(ProtocolError) -> Outcome {
    let hasOwnReply = protocolFeatures.contains(.logShmfd)
    do throws(ProtocolError) {
      let outcome = try replaceLog(payload, file)
      return hasOwnReply ? .reply(acknowledgement(of: outcome)) : outcome
    } catch {
      guard hasOwnReply else { throw error }
      onEvent(.refused(error.message))
      return .reply(UInt64(1).bytes)
    }
  }

  private func replaceLog(_ payload: [UInt8], _ file: OwnedFD?) throws(ProtocolError) -> Outcome {
    try require(.logShmfd, for: .setLogBase)
    guard let file, payload.count == LogDescription.length else {
      throw .refused(.setLogBase, "no descriptor, or no size, of the log")
    }
    let described = LogDescription(payload)
    guard described.size > 0,
      !described.offset.addingReportingOverflow(described.size).overflow
    else {
      throw .refused(
        .setLogBase, "\(described.size) bytes at offset \(described.offset) make no log")
    }
    return try install(
      LogRegion(
        size: described.size, offset: described.offset, file: file, notify: logNotify), .setLogBase)
  }

  func setLogFD(_ descriptor: OwnedFD) throws(ProtocolError) -> Outcome {
    try require(.logShmfd, for: .setLogFD)
    try Session.check(eventFD: descriptor, .setLogFD)
    logNotify = descriptor
    guard let log else { return .done }
    return try install(
      LogRegion(size: log.size, offset: log.offset, file: log.file, notify: descriptor), .setLogFD)
  }

  /// Rings stand on the log only while LOG_ALL is in force: QEMU sends it before.
  private func install(_ new: LogRegion, _ request: Request) throws(ProtocolError) -> Outcome {
    let isInForce = features?.contains(.logAll) ?? false
    return try reconfigure(isInForce ? rings.indices : 0..<0) { () throws(ProtocolError) in
      do throws(BackendError) {
        try backend.setLog(new)
      } catch {
        throw .refused(request, error.message)
      }
      log = new
    }
  }
}
