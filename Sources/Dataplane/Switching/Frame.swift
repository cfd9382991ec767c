/// A frame of the burst in hand: where it lies in its sender's memory, and where it goes.
struct Frame {
  /// Bytes of the longest frame: 64 KiB behind an Ethernet header, as a segmented frame may be.
  static let maximumLength = 65_550

  /// The first 16 bytes (fewer, if the frame is shorter), as they were judged.
  var header = EthernetHeader()
  /// Address here of byte 0, when the frame lies in one piece; else 0 and the pieces are in the burst's
  /// segment table.
  var contiguous: UInt = 0
  /// Bytes, without the virtio-net header.
  var length: UInt32 = 0
  /// A port's number, or one of the values below.
  var destination: UInt16 = 0
  /// Index in the burst of the next frame to the same destination.
  var next: UInt16 = 0
  /// First of the frame's pieces in the segment table, and their number.
  var firstSegment: UInt32 = 0
  var segmentCount: UInt32 = 0

  /// The frame is dropped already, and counted.
  static let dropped: UInt16 = 0xFFFF
  /// The frame goes to every port but the one it came from.
  static let flood: UInt16 = 0xFFFE
  /// End of a chain of `next`.
  static let end: UInt16 = 0xFFFF
}

/// A piece of contiguous memory.
struct Segment {
  var base: UInt
  var length: UInt32

  @inline(always)
  init(_ base: UnsafeMutableRawPointer, _ length: UInt32) {
    self.base = UInt(bitPattern: base)
    self.length = length
  }
}

/// What a worker holds while it moves one burst; in its arena, made once.
///
/// SAFETY: the four arrays live as long as the arena, which outlives its worker; indices come from loops
/// bounded by the constants beside them.
@safe struct Burst {
  /// Most frames of a burst. DPDK and VPP use 32 and 256; from 16 to 256 they measure alike.
  static let size = 64
  /// Pieces one chain may have. IOV_MAX is 1024, and a TAP needs two more for the headers.
  static let maximumSegments = 1000
  /// Descriptors of one chain that are looked at, empty ones and the one of an indirect table included.
  static let maximumDescriptors = 1024
  /// Pieces the table has room for: a burst of ordinary frames, or one frame of very many pieces.
  static let segmentCapacity = 4096
  /// Pieces of a receiver's buffers, filled and emptied frame by frame.
  static let targetCapacity = 2 * maximumSegments

  let frames: UnsafeMutablePointer<Frame>
  let segments: UnsafeMutablePointer<Segment>
  let targets: UnsafeMutablePointer<Segment>
  /// Head, bytes of room of each chain taken for one frame.
  let chains: UnsafeMutablePointer<TakenChain>
  static let chainCapacity = 1024

  /// One receive chain set aside for a frame.
  struct TakenChain {
    var head: UInt16
    var capacity: UInt32
  }

  init(arena: Arena) throws {
    unsafe frames = unsafe try Burst.array(Frame(), Burst.size, arena)
    let none = unsafe Segment(UnsafeMutableRawPointer(bitPattern: 1).unsafelyUnwrapped, 0)
    unsafe segments = unsafe try Burst.array(none, Burst.segmentCapacity, arena)
    unsafe targets = unsafe try Burst.array(none, Burst.targetCapacity, arena)
    unsafe chains = unsafe try Burst.array(
      TakenChain(head: 0, capacity: 0), Burst.chainCapacity, arena)
  }

  private static func array<Element: BitwiseCopyable>(
    _ value: Element, _ count: Int, _ arena: Arena
  ) throws -> UnsafeMutablePointer<Element> {
    let memory = unsafe try arena.allocate(bytes: count * MemoryLayout<Element>.stride)
    return unsafe memory.initializeMemory(as: Element.self, repeating: value, count: count)
  }
}
