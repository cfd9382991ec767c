internal import Glibc

/// Makes frames whose every byte follows from their stamp, and checks those that come: whole, and in order
/// within their flow.
///
/// A stamp is the sending lane's number (16 bits) and the frame's on that lane (48 bits).
@safe final class Verifier {
  /// What was found so far.
  struct Findings: Sendable, Equatable {
    var whole: UInt64 = 0
    /// Not a byte may differ, and none may be missing or too many.
    var corrupt: UInt64 = 0
    /// Frames that came after a later one of their flow, or twice.
    var disordered: UInt64 = 0
  }

  /// What the lanes send: by lane, the flows in turn, and the number of the next frame.
  struct Source {
    var flows: [SIMD2<UInt64>]
    var next: UInt64
  }

  private(set) var findings = Findings()
  private let sources: [Source]
  /// By receiving lane, then by sending lane and flow: the lowest number that may come.
  private var expected: [[[UInt64]]]
  private let segmented: Bool
  private let stampOffset: Int
  /// Bytes of a frame up to the end of its stamp.
  private var frontLength: Int { stampOffset + 8 }
  /// By length, the beginning of a segmented frame.
  private var fronts: [Int: [UInt8]] = [:]
  private var lane = 0
  /// By receiving lane, the frame being received and its bytes so far.
  private let frames: UnsafeMutablePointer<UInt8>
  private static let capacity = 1 << 17
  private var lengths: [Int]

  /// - Parameter segmented: frames have the headers of such (`Lane.Options.segmented`).
  init(_ sources: [Source], segmented: Bool) {
    self.sources = sources
    self.segmented = segmented
    stampOffset = segmented ? Lane.segmentedFrontLength : 16
    expected = sources.map { _ in
      sources.map { [UInt64](repeating: $0.next, count: $0.flows.count) }
    }
    lengths = sources.map { _ in 0 }
    // SAFETY: freed by `deinit`.
    unsafe frames = .allocate(capacity: Verifier.capacity * sources.count)
  }

  deinit { unsafe frames.deallocate() }

  static func stamp(lane: Int, sequence: UInt64) -> UInt64 {
    UInt64(lane) << 48 | sequence & 0xffff_ffff_ffff
  }

  /// The lane that receives from now on. A frame that is not whole by then goes on in the lane's next turn.
  func receive(on lane: Int) {
    self.lane = lane
  }

  // ---- Sending ----

  /// Byte `offset` of a frame, from the end of the stamp on.
  @inline(always)
  private static func byte(_ seed: UInt64, _ offset: Int) -> UInt8 {
    // A word of eight bytes, then which of them.
    let word = (seed &+ UInt64(offset &>> 3)) &* 0x9e37_79b9_7f4a_7c15
    return UInt8(truncatingIfNeeded: (word ^ word &>> 32) &>> (8 &* UInt64(offset & 7)))
  }

  private static func seed(_ stamp: UInt64, _ length: Int) -> UInt64 {
    stamp &* 0xd6e8_feb8_6659_fd93 &+ UInt64(length) &* 0xa076_1d64_78bd_642f
  }

  /// Writes all behind the stamp.
  func fill(
    _ buffer: GuestBuffer, _ pieces: [(offset: Int, length: Int)], stamp: UInt64, length: Int
  ) {
    let seed = Verifier.seed(stamp, length)
    var offset = 0
    for piece in pieces {
      // SAFETY: pieces are inside the buffer.
      let start = unsafe buffer.pointer + piece.offset
      for index in 0..<piece.length where offset + index >= frontLength {
        unsafe start.storeBytes(
          of: Verifier.byte(seed, offset + index), toByteOffset: index, as: UInt8.self)
      }
      offset += piece.length
    }
  }

  // ---- Receiving ----

  /// Takes a received buffer; the first of a frame begins with `header` bytes that are not the frame's.
  func take(_ bytes: UnsafeMutableRawPointer, _ count: Int, header: Int) {
    if header > 0 { lengths[lane] = 0 }
    let room = min(max(0, count - header), Verifier.capacity - lengths[lane])
    // SAFETY: `count` bytes are the caller's promise, and there is room for them.
    unsafe memcpy(frames + lane * Verifier.capacity + lengths[lane], bytes + header, room)
    lengths[lane] += room
  }

  /// The frame is complete.
  func finish() {
    let length = lengths[lane]
    guard length >= frontLength else {
      findings.corrupt += 1
      return
    }
    // SAFETY: that many bytes were written.
    let frame = unsafe frames + lane * Verifier.capacity
    let raw = UnsafeRawPointer(frame)
    let stamp = unsafe raw.loadUnaligned(fromByteOffset: stampOffset, as: UInt64.self)
    let sender = Int(stamp >> 48)
    let sequence = stamp & 0xffff_ffff_ffff
    guard sender < sources.count, !sources[sender].flows.isEmpty else {
      findings.corrupt += 1
      return
    }
    let number = Int(sequence % UInt64(sources[sender].flows.count))
    let flow = sources[sender].flows[number]
    let seed = Verifier.seed(stamp, length)
    var good =
      unsafe raw.loadUnaligned(as: UInt64.self) == flow[0]
      && raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == flow[1]
    if segmented {
      let front = fronts[length] ?? Lane.segmentedFront(length)
      fronts[length] = front
      for offset in 16..<stampOffset { good = unsafe good && frame[offset] == front[offset] }
    }
    for offset in frontLength..<length {
      good = unsafe good && frame[offset] == Verifier.byte(seed, offset)
    }
    if !good {
      findings.corrupt += 1
    } else if sequence < expected[lane][sender][number] {
      findings.disordered += 1
    } else {
      findings.whole += 1
      expected[lane][sender][number] = sequence + 1
    }
  }
}
