/// What a walk over a descriptor chain found.
struct Chain {
  /// What names the chain when it is given back: its head, or the buffer id of a packed ring.
  var id: UInt16
  /// How far its ring moves on when it is taken: one entry of a split ring's avail ring, or its descriptors in a
  /// packed ring.
  var span: UInt16
  /// The pieces written, and their bytes together; a chain longer than 4 GiB counts as 4 GiB − 1. None when the
  /// chain is no good.
  var pieces = 0
  var length: UInt32 = 0
  /// Why the chain is no good.
  var fault: DropReason?

  init(_ id: UInt16, span: UInt16, _ pieces: ChainPieces, _ fault: DropReason?) {
    self.id = id
    self.span = span
    self.fault = fault
    if fault == nil {
      self.pieces = pieces.count
      length = UInt32(clamping: pieces.total)
    }
  }
}

/// The pieces of this process's memory that a descriptor chain consists of, as a walk collects them.
///
/// SAFETY: pieces are written below `capacity`, and each is what the memory's table has proved to be mapped.
@safe struct ChainPieces {
  private let output: UnsafeMutablePointer<Piece>
  private let capacity: Int
  private let memory: MemoryView
  /// Index of the memory region hit last.
  var region: Int
  private(set) var count = 0
  /// Sum of the pieces' lengths.
  private(set) var total: UInt64 = 0

  init(
    _ output: UnsafeMutablePointer<Piece>, _ capacity: Int, _ memory: MemoryView, _ region: Int
  ) {
    unsafe self.output = unsafe output
    self.capacity = capacity
    self.memory = memory
    self.region = region
  }

  /// Appends `length` bytes from guest physical `address`; returns what is wrong with them.
  @inline(always)
  mutating func append(_ address: UInt64, _ length: UInt32) -> DropReason? {
    let entry = memory.lookup(hint: region)
    if count < capacity, length > 0, entry.covers(address, length),
      let base = unsafe UnsafeMutableRawPointer(bitPattern: entry.place(address))
    {
      unsafe output[count] = unsafe Piece(base, length)
      count &+= 1
      total &+= UInt64(length)
      return nil
    }
    return appendParts(address, length)
  }

  /// The same of bytes that lie in another region than the last, or in several, or are none.
  @inline(never)
  private mutating func appendParts(_ address: UInt64, _ length: UInt32) -> DropReason? {
    total &+= UInt64(length)
    var address = address
    var rest = length
    // A piece may run from one region into the next where their guest addresses meet.
    while rest > 0 {
      guard count < capacity else { return .chainTooLong }
      if let base = unsafe memory.translate(address, rest, hint: &region) {
        unsafe output[count] = unsafe Piece(base, rest)
        count &+= 1
        break
      }
      guard let part = unsafe memory.reach(address, rest) else {
        return memory.iotlb == nil ? .malformedDescriptor : .addressNotTranslated
      }
      let length = unsafe part.length
      unsafe output[count] = unsafe Piece(part.base, length)
      count &+= 1
      rest &-= length
      let (following, overflow) = address.addingReportingOverflow(UInt64(length))
      // The last byte of all addresses may be the last of the descriptor.
      if overflow, rest > 0 { return .malformedDescriptor }
      address = following
    }
    return nil
  }
}
