internal import Glibc

extension Burst {
  /// What belongs to frames that a plain copy is not enough for: those that ask for an offload, and those whose first
  /// bytes are the worker's own (`Front`). While `marked` is 0 nothing else here means anything, so that a burst of
  /// ordinary frames pays for one look at one word.
  ///
  /// One pointer, as a burst of more than a dozen is copied by a call wherever the compiler passes it on. The memory
  /// that queues need while frames are moved, and which has nothing to do with any frame, is found here too.
  ///
  /// SAFETY: the block has `byteCount` bytes; frames are numbers up to `Burst.size`, and every area has that many places.
  @safe struct Special {
    private let base: UnsafeMutableRawPointer

    private static let places = Burst.size + 1
    // Numbers, so that none is computed on the way of a frame; `init` holds them against the sizes.
    private static let needsOffset = 64
    private static let checksumsOffset = needsOffset + 128
    private static let frontsOffset = checksumsOffset + 192
    private static let originalsOffset = frontsOffset + 576
    private static let areasOffset = originalsOffset + 4672
    private static let byteCount = areasOffset + 2 * Front.areaSize * places

    /// Frames that have a place in `room`.
    static let roomPlaces = 32
    /// Bytes of each place: header, the longest frame, up to a whole page.
    static let roomStride = 17 * 4096
    /// Vectors of one write: the virtio-net header, the frame's front, its pieces.
    static let vectorCapacity = Burst.maximumPieces + 4

    init(arena: Arena) throws {
      precondition(Special.checksumsOffset - Special.needsOffset >= Special.places)
      precondition(Special.frontsOffset - Special.checksumsOffset >= 2 * Special.places)
      precondition(
        Special.originalsOffset - Special.frontsOffset
          >= MemoryLayout<Front>.stride * Special.places)
      precondition(
        Special.areasOffset - Special.originalsOffset
          >= MemoryLayout<Original>.stride * Special.places)
      unsafe base = unsafe try arena.allocate(bytes: Special.byteCount)
      let room = unsafe try arena.allocate(bytes: Special.roomPlaces * Special.roomStride)
      let vectors = unsafe try arena.allocate(
        bytes: Special.vectorCapacity * MemoryLayout<iovec>.stride)
      unsafe base.storeBytes(of: UInt(bitPattern: room), toByteOffset: 16, as: UInt.self)
      unsafe base.storeBytes(of: UInt(bitPattern: vectors), toByteOffset: 24, as: UInt.self)
    }

    /// Frames that are not plain.
    @inline(always)
    var marked: FrameSet {
      get { unsafe base.load(as: FrameSet.self) }
      nonmutating set { unsafe base.storeBytes(of: newValue, as: FrameSet.self) }
    }

    /// Segments that may still be made, while there are frames that ask.
    var segmentsLeft: Int {
      get { unsafe base.load(fromByteOffset: 8, as: Int.self) }
      nonmutating set { unsafe base.storeBytes(of: newValue, toByteOffset: 8, as: Int.self) }
    }

    /// Where a queue whose frames lie nowhere yet puts them: `roomPlaces` of `roomStride` bytes.
    var room: UnsafeMutableRawPointer {
      unsafe UnsafeMutableRawPointer(bitPattern: base.load(fromByteOffset: 16, as: UInt.self))
        .unsafelyUnwrapped
    }

    /// For one write of a frame in pieces: `vectorCapacity`.
    var vectors: UnsafeMutablePointer<iovec> {
      unsafe UnsafeMutablePointer(bitPattern: base.load(fromByteOffset: 24, as: UInt.self))
        .unsafelyUnwrapped
    }

    /// Frames whose virtio-net header lies right before them, in the same memory.
    @inline(always)
    var behindHeader: FrameSet {
      get { unsafe base.load(fromByteOffset: 32, as: FrameSet.self) }
      nonmutating set { unsafe base.storeBytes(of: newValue, toByteOffset: 32, as: FrameSet.self) }
    }

    /// By frame: what it asks for.
    @inline(always)
    var needs: UnsafeMutablePointer<Offloads> {
      unsafe (base + Special.needsOffset).assumingMemoryBound(to: Offloads.self)
    }

    /// By frame: csum_offset.
    @inline(always)
    var checksumOffsets: UnsafeMutablePointer<UInt16> {
      unsafe (base + Special.checksumsOffset).assumingMemoryBound(to: UInt16.self)
    }

    /// By frame: what stands for its first bytes.
    @inline(always)
    var fronts: UnsafeMutablePointer<Front> {
      unsafe (base + Special.frontsOffset).assumingMemoryBound(to: Front.self)
    }

    /// By frame: what it was before it was rewritten.
    var originals: UnsafeMutablePointer<Original> {
      unsafe (base + Special.originalsOffset).assumingMemoryBound(to: Original.self)
    }

    /// The memory of a frame's front: `Front.areaSize` bytes, others for one that was rewritten, so that what was judged
    /// is still there when the frame is restored.
    @inline(always)
    func area(_ index: Int, rewritten: Bool) -> UnsafeMutablePointer<UInt8> {
      let area = 2 &* index &+ (rewritten ? 1 : 0)
      return unsafe (base + (Special.areasOffset &+ area &* Front.areaSize))
        .assumingMemoryBound(to: UInt8.self)
    }

    /// The first byte of a frame's front, which it has.
    @inline(always)
    func start(_ index: Int, _ front: Front) -> UnsafeMutablePointer<UInt8> {
      unsafe area(index, rewritten: front.isRewritten) + Int(front.start)
    }
  }
}
