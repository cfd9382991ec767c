internal import CLinux
internal import Glibc
public import Linux
internal import SystemPackage

/// A piece of guest memory: where the guest sees it and where this process does.
@safe public struct GuestBuffer: @unchecked Sendable {
  /// Guest physical address of the first byte.
  public let address: UInt64
  /// The same byte in this process. Valid for as long as the `GuestMemory` it came from.
  public let pointer: UnsafeMutableRawPointer
  /// Bytes.
  public let length: Int

  /// Bytes `offset ..< offset + length` of this buffer.
  public func slice(_ offset: Int, _ length: Int) -> GuestBuffer {
    precondition(offset >= 0 && length >= 0 && length <= self.length - offset)
    return unsafe GuestBuffer(
      address: address + UInt64(offset), pointer: pointer + offset, length: length)
  }

  /// Copies `bytes` to `offset`.
  public func write(_ bytes: [UInt8], at offset: Int = 0) {
    precondition(offset >= 0 && bytes.count <= length - offset)
    unsafe bytes.withUnsafeBytes {
      if let source = $0.baseAddress {
        unsafe (pointer + offset).copyMemory(from: source, byteCount: $0.count)
      }
    }
  }

  /// A copy of `count` bytes from `offset`.
  public func read(at offset: Int = 0, count: Int) -> [UInt8] {
    precondition(offset >= 0 && count >= 0 && count <= length - offset)
    return unsafe [UInt8](UnsafeRawBufferPointer(start: pointer + offset, count: count))
  }

  /// The buffer as one piece of a descriptor chain.
  public var piece: Piece { Piece(address, UInt32(clamping: length)) }
}

/// A guest's memory: memfd-backed regions at invented guest physical addresses, mapped in this process
/// and ready to be shared with a back-end (vhost-user.rst, "Memory regions description").
///
/// A bump allocator hands out buffers; nothing is ever given back. Memory is the kernel's lazily zeroed
/// kind, so that thousands of guests cost what they touch.
public final class GuestMemory: @unchecked Sendable {
  /// What a region shall look like.
  public struct Layout: Sendable {
    public var guestAddress: UInt64
    /// Bytes; rounded up to whole pages by the kernel, not here.
    public var length: Int
    /// The address that ring addresses are given in; `nil`: where this process maps the region.
    public var userAddress: UInt64?
    /// Where the region begins in its file, a multiple of the page size.
    public var fileOffset: UInt64

    public init(
      guestAddress: UInt64, length: Int, userAddress: UInt64? = nil, fileOffset: UInt64 = 0
    ) {
      self.guestAddress = guestAddress
      self.length = length
      self.userAddress = userAddress
      self.fileOffset = fileOffset
    }
  }

  /// One region.
  public struct Region: Sendable {
    public let guestAddress: UInt64
    public let userAddress: UInt64
    public let fileOffset: UInt64
    public let length: Int
    /// The memfd, to be sent with SET_MEM_TABLE or ADD_MEM_REG.
    public let file: OwnedFD
    let mapping: Mapping
  }

  public let regions: [Region]
  private var nextFree: [Int]

  /// Makes and maps the regions.
  ///
  /// - Parameters:
  ///   - hugePageShift: 0 for ordinary pages, 21 or 30 for hugetlb ones of 2 MiB or 1 GiB; then lengths
  ///     must be multiples of the page, and the kernel must have that many.
  public init(_ layouts: [Layout], hugePageShift: UInt32 = 0) throws(SystemError) {
    precondition(!layouts.isEmpty)
    var made: [Region] = []
    for layout in layouts {
      // SAFETY: the name is read during the call only.
      let file = OwnedFD(
        taking: try SystemError.check(
          unsafe clx_memfd("guest-memory", hugePageShift), "make guest memory"))
      let end = layout.fileOffset + UInt64(layout.length)
      if ftruncate(file.raw, off_t(end)) != 0 {
        throw SystemError("size guest memory", errno: Errno(rawValue: errno))
      }
      let mapping = try Mapping(
        sharing: file, offset: layout.fileOffset, length: UInt64(layout.length))
      made.append(
        Region(
          guestAddress: layout.guestAddress,
          userAddress: unsafe layout.userAddress ?? UInt64(UInt(bitPattern: mapping.base)),
          fileOffset: layout.fileOffset, length: layout.length, file: file, mapping: mapping))
    }
    regions = made
    nextFree = made.map { $0.guestAddress == 0 ? 4096 : 0 }
  }

  /// One region of `length` bytes at guest physical address 0.
  public convenience init(length: Int) throws(SystemError) {
    try self.init([Layout(guestAddress: 0, length: length)])
  }

  /// Brings every page in now; false when there are too few.
  public func populate() -> Bool {
    regions.allSatisfy { region in
      // SAFETY: the region's mapping is as long as the region.
      let result = unsafe clx_populate(region.mapping.base, region.length)
      return result == 0 || result == -EINVAL || result == -ENOSYS  // before Linux 5.14
    }
  }

  /// The next free bytes of `region` (`nil`: of the first that has room), or `nil` when there are too few.
  ///
  /// - Parameter alignment: a power of two; holds for the guest physical address, and, as regions begin
  ///   on pages, up to 4096 for the pointer too.
  public func allocate(_ length: Int, alignment: Int = 64, region: Int? = nil) -> GuestBuffer? {
    precondition(alignment > 0 && alignment & (alignment - 1) == 0 && length >= 0)
    for index in region.map({ $0..<$0 + 1 }) ?? regions.indices {
      let base = Int(regions[index].guestAddress)
      let start = ((base + nextFree[index] + alignment - 1) & ~(alignment - 1)) - base
      if length <= regions[index].length - start {
        nextFree[index] = start + length
        return buffer(at: regions[index].guestAddress + UInt64(start), length: length)
      }
    }
    return nil
  }

  /// Any bytes at all, allocated or not; `nil` unless they lie in one region.
  public func buffer(at address: UInt64, length: Int) -> GuestBuffer? {
    for region in regions where address >= region.guestAddress {
      let offset = address - region.guestAddress
      if offset <= UInt64(region.length), length >= 0, length <= region.length - Int(offset) {
        // SAFETY: inside the region's mapping, by the line above.
        return unsafe GuestBuffer(
          address: address, pointer: region.mapping.base + Int(offset), length: length)
      }
    }
    return nil
  }

  /// The user address of a guest physical address, as SET_VRING_ADDR wants it; `nil` outside of every
  /// region.
  public func userAddress(of address: UInt64) -> UInt64? {
    for region in regions where address >= region.guestAddress {
      let offset = address - region.guestAddress
      if offset < UInt64(region.length) { return region.userAddress &+ offset }
    }
    return nil
  }
}
