/// A descriptor chain as Linux makes most of its own: the virtio-net header in a descriptor of its own or before the
/// frame's first bytes, and the frame in one or few more.
///
/// It is collected in a short way, `takeShort` of either layout. Whatever is not as simple, or not as it should be, is for
/// the walk over any chain (`ChainPieces`), which loads it again from its beginning: until a short chain is known to be
/// one, nothing of it was taken. Each of its pieces lies in one region, its frame is no longer than `Burst.share`, and the
/// 16 bytes that are judged lie in one piece.
///
/// SAFETY: `output` has room for `mostPieces`; each piece is what the memory's table has proved to be mapped.
@safe struct ShortChain {
  /// Descriptors, without that of an indirect table.
  static let most = 4
  /// The header is a piece of its own, wherever it lies.
  static let mostPieces = most + 1

  private let output: UnsafeMutablePointer<Piece>
  private(set) var pieces = 0
  /// Bytes of the frame.
  private var length: UInt64 = 0

  @inline(always)
  init(_ output: UnsafeMutablePointer<Piece>) { unsafe self.output = unsafe output }

  /// Begins with the first descriptor's bytes, which begin with the header. Returns whether they are such as a short chain
  /// has.
  @inline(always)
  mutating func begin(_ address: UInt64, _ bytes: UInt32, _ finder: inout Finder) -> Bool {
    guard bytes >= finder.headerSize, finder.covers(address, bytes) else { return false }
    let base = finder.place(address)
    unsafe output[0] = Piece(base, finder.headerSize)
    pieces = 1
    if bytes == finder.headerSize { return true }
    unsafe output[1] = Piece(base &+ UInt(finder.headerSize), bytes &- finder.headerSize)
    pieces = 2
    length = UInt64(bytes &- finder.headerSize)
    return true
  }

  /// Adds another descriptor's bytes. Returns whether they are such as a short chain has.
  @inline(always)
  mutating func append(_ address: UInt64, _ bytes: UInt32, _ finder: inout Finder) -> Bool {
    guard bytes > 0, finder.covers(address, bytes) else { return false }
    unsafe output[pieces] = Piece(finder.place(address), bytes)
    pieces &+= 1
    length &+= UInt64(bytes)
    return true
  }

  /// Where a chain's bytes are: the region hit last, kept in registers.
  struct Finder {
    let memory: MemoryView
    /// Bytes of the virtio-net header.
    let headerSize: UInt32
    private(set) var region: Int
    private var lookup: MemoryView.Entry

    @inline(always)
    init(_ memory: MemoryView, region: Int, headerSize: UInt32) {
      self.memory = memory
      self.headerSize = headerSize
      self.region = region
      lookup = memory.lookup(hint: region)
    }

    /// Whether so many bytes lie in one region, in which `place` then finds them.
    @inline(always)
    mutating func covers(_ address: UInt64, _ bytes: UInt32) -> Bool {
      if lookup.covers(address, bytes) { return true }
      guard unsafe memory.translate(address, bytes, hint: &region) != nil else { return false }
      lookup = memory.lookup(hint: region)
      return true
    }

    @inline(always)
    func place(_ address: UInt64) -> UInt { lookup.place(address) }
  }

  /// Makes the chain frame `index` of a burst whose table of pieces has its pieces from `first` on. Returns whether it is
  /// short. Its headers are loaded by `Burst.loadHeaders`.
  @inline(always)
  func finish(_ burst: Burst, _ index: Int, first: Int) -> Bool {
    guard pieces > 1, length <= UInt64(Burst.share),
      unsafe output[1].length >= UInt32(EthernetHeader.held)
    else { return false }
    unsafe burst.lengths[index] = UInt32(truncatingIfNeeded: length)
    unsafe burst.addresses[index] = pieces == 2 ? output[1].base : 0
    unsafe burst.extents[index] = Burst.Extent(
      first: UInt32(truncatingIfNeeded: first &+ 1), count: UInt32(truncatingIfNeeded: pieces &- 1))
    unsafe burst.prefetchHeaders(output)
    return true
  }
}
