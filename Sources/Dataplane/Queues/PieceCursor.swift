internal import CLinux

/// A place in a list of pieces, for walking two lists beside each other. The list is the worker's own, so
/// it does not change; the bytes it points to may.
@safe struct PieceCursor {
  private let pieces: UnsafeMutablePointer<Piece>
  private let count: Int
  private(set) var index = 0
  private var offset: UInt32 = 0

  /// - Parameter pieces: `count` pieces, none of them empty.
  @inline(always)
  init(_ pieces: UnsafeMutablePointer<Piece>, count: Int) {
    unsafe self.pieces = unsafe pieces
    self.count = count
  }

  /// Bytes left in the present piece.
  @inline(always)
  var remainingHere: Int {
    index < count ? Int(unsafe pieces[index].length &- offset) : 0
  }

  /// Address of the next byte; there must be one.
  @inline(always)
  var here: UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(bitPattern: pieces[index].base &+ UInt(offset))
      .unsafelyUnwrapped
  }

  /// Takes one byte; 0 behind the end.
  mutating func byte() -> UInt8 {
    guard remainingHere > 0 else { return 0 }
    let value = unsafe clx_fetch8(here)
    skip(1)
    return value
  }

  /// Takes eight bytes, the first as the lowest; 0 behind the end.
  mutating func word() -> UInt64 {
    if remainingHere >= 8 {
      let value = unsafe clx_fetch64(here)
      skip(8)
      return UInt64(littleEndian: value)
    }
    var value: UInt64 = 0
    for position in 0..<UInt64(8) { value |= UInt64(byte()) &<< (8 &* position) }
    return value
  }

  /// Moves on by `length` bytes, or to the end.
  mutating func skip(_ length: Int) {
    var rest = length
    while rest > 0, index < count {
      let step = min(rest, remainingHere)
      offset &+= UInt32(truncatingIfNeeded: step)
      rest &-= step
      if remainingHere == 0 {
        index &+= 1
        offset = 0
      }
    }
  }

  /// Shortens the present piece by what has been taken of it, so that the list itself begins here.
  mutating func dropConsumed() {
    guard index < count, offset > 0 else { return }
    unsafe pieces[index].base &+= UInt(offset)
    unsafe pieces[index].length &-= offset
    offset = 0
  }

  /// Moves on by `length` bytes, whose pieces go to `output`; returns how many those are, `capacity` at most.
  mutating func cut(
    _ length: Int, into output: UnsafeMutablePointer<Piece>, capacity: Int
  ) -> Int {
    var pieces = 0
    var rest = length
    while rest > 0, pieces < capacity {
      let step = min(rest, remainingHere)
      if step == 0 { break }
      // SAFETY: the caller has room for `capacity`.
      unsafe output[pieces] = unsafe Piece(here, UInt32(truncatingIfNeeded: step))
      pieces &+= 1
      skip(step)
      rest &-= step
    }
    return pieces
  }

  /// Moves on by `length` bytes and adds them to a checksum.
  mutating func add(_ length: Int, to sum: inout Checksum) {
    var rest = length
    while rest > 0 {
      let step = min(rest, min(remainingHere, 1 << 16))
      if step == 0 { return }
      // SAFETY: `step` bytes lie here.
      unsafe sum.add(here, step)
      skip(step)
      rest &-= step
    }
  }

  /// Copies `length` bytes from private memory to this place and moves past them; what does not fit is
  /// left out.
  mutating func write(_ source: UnsafeRawPointer, _ length: Int) {
    var done = 0
    while done < length {
      let step = min(length &- done, remainingHere)
      if step == 0 { return }
      // SAFETY: `step` bytes lie at both places: `length` bounds the source, the piece the target.
      unsafe clx_copy(here, source + done, step)
      skip(step)
      done &+= step
    }
  }

  /// Copies `length` bytes from `source`'s place to this one and moves both; stops where either ends.
  mutating func copy(from source: inout PieceCursor, _ length: Int) {
    var rest = length
    while rest > 0 {
      let step = min(rest, min(remainingHere, source.remainingHere))
      if step == 0 { return }
      // SAFETY: `step` bytes lie in both pieces. They may overlap only if a guest shares memory with
      // itself through two ports, and then only its own bytes suffer.
      unsafe clx_move(here, source.here, step)
      skip(step)
      source.skip(step)
      rest &-= step
    }
  }
}

/// A piece of contiguous memory.
struct Piece {
  var base: UInt
  var length: UInt32

  @inline(always)
  init(_ base: UnsafeMutableRawPointer, _ length: UInt32) {
    self.init(UInt(bitPattern: base), length)
  }

  @inline(always)
  init(_ base: UInt, _ length: UInt32) {
    self.base = base
    self.length = length
  }
}
