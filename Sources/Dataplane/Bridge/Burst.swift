internal import CVector

/// What a worker holds while it moves one burst of frames; in its arena, made once.
///
/// A frame is a number below `size`. What is known of it lies in an array for each property, not in a record
/// for each frame: a pass over a burst touches only what it needs, and vector instructions can take eight
/// frames at a time.
///
/// SAFETY: the arrays live as long as the arena, which outlives its worker; indices come from loops
/// bounded by the constants beside them. Addresses of frames are what a queue has proved to be mapped for
/// the frame's length.
@safe struct Burst {
  /// Most frames of a burst. DPDK and VPP use 32 and 256; from 16 to 256 they measure alike. No more than
  /// the bits of a `FrameSet`.
  static let size = 64
  /// Bytes of a frame that count as one frame of a burst; a longer one counts once more for each further so many that it
  /// has begun (`surplus`). So a burst brings at most `size` × `share` bytes, 128 KiB, and one frame: what a source's
  /// neighbours wait for is a copy of that, whatever it sends. Frames of an MTU of 1500, or up to 2 KiB, are never fewer
  /// than `size`, and only longer ones are counted, which lie out of the way of the short loops.
  static let share = 2048
  /// Bytes of the longest frame: 64 KiB behind an Ethernet header, as a segmented frame may be, with two VLAN tags.
  static let maximumLength = 65_558
  /// Pieces one chain may have. IOV_MAX is 1024, and a TAP needs two more for the headers.
  static let maximumPieces = 1000
  /// Descriptors of one chain that are looked at, empty ones and the one of an indirect table included.
  static let maximumDescriptors = 1024
  /// Pieces the table has room for: a burst of ordinary frames, or one frame of very many pieces.
  static let pieceCapacity = 4096
  /// Descriptors of a receiver's buffers that are looked at for one burst, beside those of frames that lie in one. With
  /// many a receiver would have the worker spend milliseconds on its frames: each may have up to twice `targetCapacity`.
  /// More than twice what Linux posts for a burst without mergeable buffers, 19 for each frame and segment, takes.
  static let deliveryDescriptors = 8192
  /// Where the payload of the segment being made lies behind them, and how many pieces it may have.
  static let sparePieces = pieceCapacity
  static let spareCapacity = maximumPieces + 4
  /// Behind those: a place for each frame that lies in one piece and must be looked at as a list of pieces.
  static let wholePieces = sparePieces + spareCapacity
  /// Segments one frame may be cut into. With the least that IPv4 hosts must take, 536 bytes, the longest frame has
  /// 123; a frame that asks for thousands would keep a worker for milliseconds.
  static let maximumSegmentsOfFrame = 512
  /// Segments that the frames of one burst may be cut into, for all their receivers together: five times what a burst of
  /// the longest frames has with an MTU of 1,000.
  static let maximumSegmentsOfBurst = 1024
  /// Pieces of a receiver's buffers, filled and emptied frame by frame.
  static let targetCapacity = 2 * maximumPieces

  /// Some of the frames of a burst: bit n is frame n.
  typealias FrameSet = UInt64

  /// Whether the processor has what CVector needs.
  let vectors: Bool

  // ---- By frame; one more, `size`, is the segment being made ----

  /// Address here of byte 0 of a frame that lies in one piece; 0: its pieces are in the table of pieces.
  let addresses: UnsafeMutablePointer<UInt>
  /// Bytes, without the virtio-net header.
  let lengths: UnsafeMutablePointer<UInt32>
  /// The first 16 bytes (fewer, if the frame is shorter), as they were judged.
  let headers: UnsafeMutablePointer<EthernetHeader>
  /// The first eight bytes of the virtio-net header (`NetHeader.word`), as they were judged.
  let netHeaders: UnsafeMutablePointer<UInt64>
  /// What belongs to frames that a plain copy is not enough for.
  let special: Special
  /// The word of a destination in the forwarding table, or one of `Destination`.
  let destinations: UnsafeMutablePointer<UInt32>
  /// Where a frame's pieces are, if it is in pieces.
  let extents: UnsafeMutablePointer<Extent>

  // ---- By delivery ----

  /// 0, 1, 2 …: the order of frames that all go to one place.
  let natural: UnsafeMutablePointer<UInt16>
  /// Frames in the order in which they are delivered, a destination after the other.
  let order: UnsafeMutablePointer<UInt16>
  /// Addresses of the receive buffers of a run of frames.
  let buffers: UnsafeMutablePointer<UInt>

  // ---- Pieces ----

  let pieces: UnsafeMutablePointer<Piece>
  let targets: UnsafeMutablePointer<Piece>
  /// The chains set aside for one frame.
  let chains: UnsafeMutablePointer<TakenChain>
  static let chainCapacity = 1024

  /// For how many frames of a burst one of so many bytes, 1 or more, counts beside itself.
  @inline(always)
  static func surplus(_ length: UInt32) -> Int { Int((length &- 1) / UInt32(share)) }

  /// Values of `destinations` that lead to no port: in their low half no port has its number.
  enum Destination {
    /// The frame is dropped already, and counted.
    static let none: UInt32 = 0xFFFF_FFFF
    /// The table must be asked.
    static let unknown: UInt32 = 0xFFFF_FFF0
    /// The frame goes to every port but the one it came from.
    static let flood: UInt32 = 0xFFFF_FFFE
  }

  /// The first of a frame's pieces in the table, and their number.
  struct Extent {
    var first: UInt32 = 0
    var count: UInt32 = 0
  }

  /// One receive chain set aside for a frame.
  struct TakenChain {
    /// As in `Chain`.
    var id: UInt16
    var span: UInt16
    /// Bytes of room.
    var capacity: UInt32
  }

  #if FUZZING
    /// Both ways are to be seen on one machine.
    nonisolated(unsafe) static var mayUseVectors = true
  #endif

  /// - Parameter vectors: whether to use vector instructions where there are any.
  init(arena: Arena, vectors: Bool = true) throws {
    #if FUZZING
      let vectors = unsafe vectors && Burst.mayUseVectors
    #endif
    self.vectors = vectors && cvx_available() != 0
    let places = Burst.size + 1
    unsafe addresses = unsafe try Burst.array(0, places, arena)
    unsafe lengths = unsafe try Burst.array(0, places, arena)
    unsafe headers = unsafe try Burst.array(EthernetHeader(), places, arena)
    unsafe netHeaders = unsafe try Burst.array(0, places, arena)
    special = try Special(arena: arena)
    unsafe destinations = unsafe try Burst.array(0, Burst.size, arena)
    unsafe extents = unsafe try Burst.array(Extent(), places, arena)
    unsafe natural = unsafe try Burst.array(0, Burst.size, arena)
    unsafe order = unsafe try Burst.array(0, Burst.size, arena)
    unsafe buffers = unsafe try Burst.array(0, Burst.size, arena)
    let none = unsafe Piece(UnsafeMutableRawPointer(bitPattern: 1).unsafelyUnwrapped, 0)
    unsafe pieces = unsafe try Burst.array(none, Burst.wholePieces + places, arena)
    unsafe targets = unsafe try Burst.array(none, Burst.targetCapacity, arena)
    unsafe chains = unsafe try Burst.array(
      TakenChain(id: 0, span: 0, capacity: 0), Burst.chainCapacity, arena)
    for index in 0..<Burst.size { unsafe natural[index] = UInt16(index) }
  }

  private static func array<Element: BitwiseCopyable>(
    _ value: Element, _ count: Int, _ arena: Arena
  ) throws -> UnsafeMutablePointer<Element> {
    let memory = unsafe try arena.allocate(bytes: count * MemoryLayout<Element>.stride)
    return unsafe memory.initializeMemory(as: Element.self, repeating: value, count: count)
  }
}

/// What a queue gave: frames 0 ..< `frames` of the burst.
struct Gathered {
  var frames = 0
  /// Frames whose headers are loaded already; a plain frame's are loaded by `judge`.
  var judged: Burst.FrameSet = 0
  /// Frames that were dropped, and counted.
  var dropped: Burst.FrameSet = 0
}
