internal import Glibc
internal import Synchronization

/// Frames for a receiveq behind an IOMMU that can't be delivered yet, as nobody has told where its buffers are, or the
/// ring itself: copies of them, in the order in which they came.
///
/// They are copied so that nobody else waits. A frame that stayed where it is would keep its sender's ring from going on,
/// and its worker's turn from ending, for as long as the receiver's front-end likes (decision 21). What is kept is what
/// will be written: the virtio-net header and the frame, with checksums completed as the receiver wants it.
///
/// There is room for so many bytes and no more, and no frame stays for longer than so many counts of the time-stamp counter.
///
/// SAFETY: the block has `headerSize` + `capacity` bytes; records lie below `capacity` and never wrap. It is used by who
/// has the receiveq (`QueueState.lock`), and by control when no worker has; it is freed with its `IOTLB`, which whatever
/// runs of the receiveq keeps alive.
@safe struct WaitingFrames {
  /// Bytes for the receiveqs of a port together, and of one at least: of three of the longest frames.
  static let portCapacity = 1 << 20
  static let leastCapacity = 1 << 18

  private static let headerSize = 64
  /// Before each frame: its bytes, and until when it may wait. A record without bytes: go on at the beginning.
  private static let recordSize = 16

  private let block: UnsafeMutableRawPointer

  init(_ block: UnsafeMutableRawPointer) { unsafe self.block = unsafe block }

  // ---- Control ----

  static func make(capacity: Int) -> WaitingFrames {
    // Pages that no frame has lain in cost nothing.
    guard let block = unsafe malloc(headerSize + capacity) else {
      fatalError("no memory for waiting frames")
    }
    unsafe block.initializeMemory(as: Int.self, repeating: 0, count: headerSize / 8)
    let frames = unsafe WaitingFrames(block)
    frames.store(.capacity, capacity / 16 * 16)
    return frames
  }

  /// No ring that runs may use it.
  func free() { unsafe Glibc.free(block) }

  /// The address of the block.
  var place: UInt { unsafe UInt(bitPattern: block) }

  // ---- Words ----

  private enum Word: Int {
    /// The one word that others look at too.
    case count
    /// Where the first record is, and where the next one goes.
    case first, end
    case capacity
  }

  private func word(_ word: Word) -> UnsafeMutablePointer<Atomic<Int>> {
    unsafe (block + 8 &* word.rawValue).assumingMemoryBound(to: Atomic<Int>.self)
  }

  private func load(_ place: Word) -> Int { unsafe word(place).pointee.load(ordering: .relaxed) }

  private func store(_ place: Word, _ value: Int) {
    unsafe word(place).pointee.store(value, ordering: .relaxed)
  }

  private func record(_ offset: Int) -> UnsafeMutableRawPointer {
    unsafe block + (WaitingFrames.headerSize &+ offset)
  }

  // ---- Whoever has the receiveq ----

  /// Frames that wait.
  var count: Int { load(.count) }

  /// A place for `length` bytes at the end; `nil`: there is no room.
  ///
  /// - Parameter until: the time-stamp counter, no less than of those before it.
  func append(_ length: Int, until: UInt64) -> UnsafeMutableRawPointer? {
    let size = (WaitingFrames.recordSize &+ length &+ 15) & ~15
    let (first, end, capacity) = (load(.first), load(.end), load(.capacity))
    var place = end
    if count == 0 {
      // From the beginning, so that a longest frame always finds room in what is empty.
      place = 0
      store(.first, 0)
    } else if first < end, capacity &- end < size {
      // What is left at the end is too short.
      if end < capacity { unsafe record(end).storeBytes(of: 0, as: Int.self) }
      place = 0
    }
    let room = count > 0 && place <= first ? first &- place : capacity &- place
    // The end never comes to where the first is: it lies before it or behind it, which says which of both was earlier.
    if room < size || (count > 0 && place <= first && room == size) { return nil }
    let record = unsafe record(place)
    unsafe record.storeBytes(of: length, as: Int.self)
    unsafe record.storeBytes(of: until, toByteOffset: 8, as: UInt64.self)
    store(.end, place &+ size)
    store(.count, count &+ 1)
    return unsafe record + WaitingFrames.recordSize
  }

  /// The frame that has waited longest; there is one.
  var first: (base: UnsafeMutableRawPointer, length: Int, until: UInt64) {
    let record = unsafe record(load(.first))
    return unsafe (
      record + WaitingFrames.recordSize, record.load(as: Int.self),
      record.load(fromByteOffset: 8, as: UInt64.self)
    )
  }

  /// Forgets it.
  func removeFirst() {
    let size = (WaitingFrames.recordSize &+ (unsafe first.length) &+ 15) & ~15
    var next = load(.first) &+ size
    let count = load(.count) &- 1
    store(.count, count)
    let capacity = load(.capacity)
    if count > 0, next != load(.end) {
      let isLast = unsafe next == capacity || record(next).load(as: Int.self) == 0
      if isLast { next = 0 }
    }
    store(.first, next)
  }

  /// Forgets all; returns how many there were.
  func removeAll() -> Int {
    let count = count
    store(.count, 0)
    store(.first, 0)
    store(.end, 0)
    return count
  }
}
