internal import CLinux
internal import Synchronization

/// A packed ring's shared words (virtio v1.4, 2.8). Public where hostile tests need to write what no driver
/// would.
///
/// SAFETY: descriptor indices are below `size` (checked, or `PackedPosition`'s); the two event suppression
/// structures are four aligned bytes each, in place of the split ring's parts.
extension DriverRing {
  /// Descriptor `index`, 0 ..< size.
  public func writePackedDescriptor(_ index: Int, _ descriptor: PackedDescriptor) {
    precondition(index >= 0 && index < size)
    unsafe descriptors[2 &* index].store(descriptor.address, ordering: .relaxed)
    unsafe descriptors[2 &* index &+ 1].store(descriptor.secondWord, ordering: .releasing)
  }

  public func readPackedDescriptor(_ index: Int) -> PackedDescriptor {
    precondition(index >= 0 && index < size)
    let rest = unsafe descriptors[2 &* index &+ 1].load(ordering: .acquiring)
    return unsafe PackedDescriptor(words: descriptors[2 &* index].load(ordering: .relaxed), rest)
  }

  /// The driver's event suppression structure: which interrupts it wants (2.8.10).
  public var driverEvent: EventSuppression {
    get { unsafe EventSuppression(word: eventWord(avail).pointee.load(ordering: .relaxed)) }
    nonmutating set { unsafe eventWord(avail).pointee.store(newValue.word, ordering: .relaxed) }
  }

  /// The device's event suppression structure: which kicks it wants.
  public var deviceEvent: EventSuppression {
    get { unsafe EventSuppression(word: eventWord(used).pointee.load(ordering: .relaxed)) }
    nonmutating set { unsafe eventWord(used).pointee.store(newValue.word, ordering: .relaxed) }
  }

  private func eventWord(
    _ part: UnsafeMutablePointer<Atomic<UInt16>>
  ) -> UnsafeMutablePointer<Atomic<UInt32>> {
    unsafe UnsafeMutableRawPointer(part).assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  // ---- Available ----

  /// Writes the next descriptor; the first since `publish` gets its flags from `publish`.
  @inline(always)
  mutating func writePacked(_ slot: Int, _ address: UInt64, _ rest: UInt64) {
    unsafe descriptors[2 &* slot].store(address, ordering: .relaxed)
    if heldSlot < 0 {
      heldSlot = slot
      heldWord = rest
    } else {
      unsafe descriptors[2 &* slot &+ 1].store(rest, ordering: .relaxed)
    }
  }

  mutating func publishPacked() {
    if heldSlot < 0 { return }
    unsafe descriptors[2 &* heldSlot &+ 1].store(heldWord, ordering: .releasing)
    heldSlot = -1
  }

  mutating func shouldKickPacked() -> Bool {
    let count = min(unkicked, size)
    if count == 0 { return false }
    // As in a split ring.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    unkicked = 0
    let event = deviceEvent
    switch event.flags {
    case .enable, .reserved: return true
    case .disable: return false
    case .descriptor:
      if !options.eventIndex { return true }
      // In 16-bit numbers that begin with this lap: what lies in the one before is negative.
      let new = availPosition.index
      var passed = event.position.index
      if event.position.wrap != availPosition.wrap { passed &-= UInt16(size) }
      return clx_need_event(passed, new, new &- UInt16(count)) != 0
    }
  }

  // ---- Used ----

  /// The used element at `position`, if the device has written one there: buffer id, and bytes written,
  /// which count with the WRITE flag only (2.8.4).
  @inline(always)
  func packedUsed(at position: PackedPosition) -> Used? {
    let word = unsafe descriptors[2 &* Int(position.index) &+ 1].load(ordering: .acquiring)
    let flags = UInt16(truncatingIfNeeded: word &>> 48)
    // An available descriptor has one of the flags, a ring's fresh memory neither.
    guard flags & PackedDescriptor.bothFlags == position.usedFlags, outstanding > 0 else {
      return nil
    }
    return Used(
      token: UInt16(truncatingIfNeeded: word &>> 32),
      length: flags & RawDescriptor.writeFlag != 0 ? UInt32(truncatingIfNeeded: word) : 0)
  }

  /// The next used buffer, judged; its descriptors stay the caller's.
  @inline(always)
  mutating func takePacked() -> Used? {
    guard !isLost, let used = packedUsed(at: usedPosition) else { return nil }
    // SAFETY: the second condition is evaluated only for an index below `size`.
    guard used.token < size, unsafe shadow[Int(used.token)].chain != 0 else {
      note(.unknownToken(UInt32(used.token)))
      isLost = true
      return nil
    }
    let writable = unsafe shadow[Int(used.token)].writable
    if used.length > writable {
      note(.overlong(token: used.token, length: used.length, writable: writable))
    }
    usedPosition.advance(by: Int(unsafe shadow[Int(used.token)].chain), size: size)
    outstanding &-= 1
    return Used(token: used.token, length: min(used.length, writable))
  }

  /// Takes up to `limit` used buffers of one descriptor each.
  mutating func takePacked(
    _ tokens: inout MutableSpan<UInt16>, lengths: inout MutableSpan<UInt32>, limit: Int
  ) -> Int {
    if isLost { return 0 }
    // In registers: see `repostInOrder`.
    let (descriptors, shadow, size) = unsafe (descriptors, shadow, size)
    var slot = Int(usedPosition.index)
    var wrap = usedPosition.wrap
    var usedFlags = usedPosition.usedFlags
    let limit = min(limit, outstanding)
    var taken = 0
    while taken < limit {
      let word = unsafe descriptors[2 &* slot &+ 1].load(ordering: .acquiring)
      let flags = UInt16(truncatingIfNeeded: word &>> 48)
      if flags & PackedDescriptor.bothFlags != usedFlags { break }
      let token = UInt16(truncatingIfNeeded: word &>> 32)
      // SAFETY: the second condition is evaluated only for an index below `size`.
      guard token < size, unsafe shadow[Int(token)].chain != 0 else {
        note(.unknownToken(UInt32(token)))
        isLost = true
        break
      }
      precondition(unsafe shadow[Int(token)].chain == 1, "a burst of longer chains")
      unsafe shadow[Int(token)].chain = 0
      let writable = unsafe shadow[Int(token)].writable
      var length = flags & RawDescriptor.writeFlag != 0 ? UInt32(truncatingIfNeeded: word) : 0
      if length > writable {
        note(.overlong(token: token, length: length, writable: writable))
        length = writable
      }
      tokens[taken] = token
      lengths[taken] = length
      taken &+= 1
      slot &+= 1
      if slot == size {
        slot = 0
        wrap.toggle()
        usedFlags = PackedPosition(wrap: wrap).usedFlags
      }
    }
    usedPosition = PackedPosition(index: UInt16(truncatingIfNeeded: slot), wrap: wrap)
    outstanding &-= taken
    return taken
  }

  // ---- Where a device begins ----

  /// What SET_VRING_BASE says when nobody knows where the last back-end ended: the device begins with the
  /// oldest buffer it has not returned. A split ring's is `used.idx`; in a packed ring it is found by
  /// passing over what the device has used and this driver has not taken yet.
  public var resumeBase: UInt32 {
    if !options.packed { return UInt32(usedIndex) }
    var position = usedPosition
    var ahead = 0
    while let used = packedUsed(at: position) {
      // In order one used element may stand for several buffers.
      while options.inOrder, ahead < outstanding {
        let token = unsafe order[(orderFront + ahead) % size]
        if token == used.token { break }
        position.advance(by: Int(unsafe shadow[Int(token)].chain), size: size)
        ahead += 1
      }
      ahead += 1
      guard used.token < size, ahead <= outstanding else { break }
      position.advance(by: Int(unsafe shadow[Int(used.token)].chain), size: size)
    }
    return UInt32(position.word) | UInt32(position.word) << 16
  }
}
