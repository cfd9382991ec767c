/// Taking frames from a guest: the burst becomes views of its memory, nothing is copied.
///
/// SAFETY: a frame's address is what the memory's table has proved to be mapped for the frame's length; frame
/// and segment indices stay below the capacities that `gather` checks before each chain.
extension Virtqueue {
  /// Takes up to `Burst.size` chains, fewer where frames are long (`Burst.share`). Each becomes a frame of `burst`, or a
  /// named drop; either way it is given back, which `publish` shows once the burst has been delivered. The others stay
  /// in the ring for the next turn.
  mutating func gather(_ burst: Burst) -> Gathered {
    var count = available(Burst.size)
    var gathered = Gathered()
    var pieces = 0
    var descriptors = 0
    var surplus = 0
    while gathered.frames < count {
      gathered.frames &+= takePlain(
        burst, from: gathered.frames, to: count, longest: Burst.share)
      if gathered.frames == count || available(1) == 0 { break }
      // Bounds the work of one burst: a few chains of a thousand pieces end it, and as many that are no good.
      if pieces > Burst.pieceCapacity &- Burst.maximumPieces { break }
      let short = takeShort(burst, from: gathered.frames, to: count, pieces: &pieces)
      if short > 0 {
        let all = Burst.FrameSet.max &>> UInt64(Burst.size &- short)
        gathered.judged |= all &<< UInt64(gathered.frames)
        gathered.frames &+= short
        continue
      }
      if takeLong(burst, at: gathered.frames) {
        gathered.frames &+= 1
      } else {
        if descriptors > Burst.pieceCapacity { break }
        if !takeAny(burst, &gathered, pieces: &pieces, descriptors: &descriptors) { break }
        if gathered.dropped &>> UInt64(gathered.frames &- 1) & 1 != 0 { continue }
      }
      surplus &+= Burst.surplus(unsafe burst.lengths[gathered.frames &- 1])
      count = min(count, Burst.size &- surplus)
    }
    return gathered
  }

  /// Takes one frame of any length that lies in one descriptor with its virtio-net header, if such a one is the next.
  @inline(never)
  private mutating func takeLong(_ burst: Burst, at index: Int) -> Bool {
    takePlain(burst, from: index, to: index &+ 1, longest: Burst.maximumLength) != 0
  }

  /// Takes one chain of any layout: the header may share a descriptor with the frame, or be split over several
  /// (2.7.4.1). Returns false when the ring is broken, or its next chain waits for a translation; one that has waited for
  /// long is dropped.
  @inline(never)
  private mutating func takeAny(
    _ burst: Burst, _ gathered: inout Gathered, pieces used: inout Int,
    descriptors: inout Int
  ) -> Bool {
    var budget = Burst.maximumDescriptors
    guard
      let chain = unsafe chain(
        ahead: 0, writable: false, output: burst.pieces + used,
        capacity: Burst.maximumPieces, budget: &budget)
    else { return false }
    descriptors &+= Burst.maximumDescriptors &- budget
    if chain.fault == .addressNotTranslated {
      unsafe awaitTranslation(
        writable: false, output: burst.pieces + used, capacity: Burst.maximumPieces)
      // What never comes is not to hold up what is behind it for ever.
      guard let iotlb = memory.iotlb, iotlb.hasWaitedLong() else { return false }
    } else if let iotlb = memory.iotlb {
      iotlb.take(Int(chain.span))
    }
    use(chain.id, span: chain.span, written: 0)
    let index = gathered.frames
    let bit: Burst.FrameSet = 1 &<< UInt64(index)
    gathered.frames &+= 1
    let reason =
      chain.fault
      ?? burst.view(
        index, first: used, count: chain.pieces, length: chain.length, headerSize: headerSize)
    if let reason {
      counters.drop(reason)
      gathered.dropped |= bit
    } else {
      used &+= chain.pieces
      gathered.judged |= bit
    }
    return true
  }
}
