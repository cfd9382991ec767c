/// What becomes of chains whose addresses are not in the IOTLB: they stay where they are, the front-end is asked, and
/// the ring goes on when the table has changed.
///
/// Asking takes the front-end's time, so as much as may be is asked for at once, and of a receiveq before a frame
/// needs it: buffers are looked at some way ahead of those that are filled.
extension Virtqueue {
  /// Places ahead that are looked at, and those that must have been.
  private static var window: Int { 64 }
  static var least: Int { 32 }

  /// Asks for what the next chain lacks, and those behind it; once for a table.
  ///
  /// - Parameters: as of `chain`; `output` is overwritten.
  @inline(never)
  mutating func awaitTranslation(
    writable: Bool, output: UnsafeMutablePointer<Piece>, capacity: Int
  ) {
    guard let iotlb = memory.iotlb else { return }
    let generation = iotlb.generation
    // Once more: it is to be this generation's table that lacks it.
    var budget = Burst.maximumDescriptors
    let next = unsafe chain(
      ahead: 0, writable: writable, output: output, capacity: capacity, budget: &budget)
    guard next?.fault == .addressNotTranslated, iotlb.wait(generation) else { return }
    unsafe lookAhead(
      enough: Self.window, writable: writable, output: output, capacity: capacity)
  }

  /// Asks for what the chains ahead lack, unless `enough` places were looked at before.
  ///
  /// - Parameters: as of `chain`; `output` is overwritten.
  @inline(never)
  mutating func lookAhead(
    enough: Int, writable: Bool, output: UnsafeMutablePointer<Piece>, capacity: Int
  ) {
    guard let iotlb = memory.iotlb, let look = iotlb.beginLook(enough: enough) else { return }
    var ahead = look.seen
    // A chain costs as much as one that is taken.
    var budget = Burst.maximumDescriptors
    while ahead < Self.window,
      let chain = unsafe chain(
        ahead: ahead, writable: writable, output: output, capacity: capacity, budget: &budget)
    {
      ahead &+= Int(chain.span)
    }
    iotlb.endLook(look, seen: ahead)
  }

  /// Has the front-end be asked for the first buffers before a frame needs them, of a ring that is nobody's yet.
  mutating func lookAhead(isTransmitq: Bool) {
    if memory.iotlb == nil { return }
    let capacity = Burst.maximumPieces
    unsafe withUnsafeTemporaryAllocation(of: Piece.self, capacity: capacity) { scratch in
      // SAFETY: the scratch has room for `capacity` pieces, and nobody reads them.
      guard let output = scratch.baseAddress else { return }
      unsafe lookAhead(
        enough: 1, writable: !isTransmitq, output: output, capacity: capacity)
    }
  }
}
