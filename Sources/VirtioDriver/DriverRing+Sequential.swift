internal import Synchronization

/// Descriptors in ring order: packed rings (virtio v1.4, 2.8), and split ones with VIRTIO_F_IN_ORDER, whose
/// driver must use its table from beginning to end (2.7.5).
///
/// A token's buffer lies in whatever descriptor comes next, so the descriptor is written each time; its
/// *image* is kept, so that writing it is two stores.
///
/// SAFETY: tokens are below `size`, checked where they come in, and so is every descriptor index, as
/// `PackedPosition.advance` leaves it.
extension DriverRing {
  /// Remembers the descriptor of the single-descriptor buffer `token`.
  @inline(always)
  func setImage(_ token: UInt16, _ piece: Piece, writable: Bool) {
    setImage(
      token,
      RawDescriptor(
        address: piece.address, length: piece.length,
        flags: writable ? RawDescriptor.writeFlag : 0))
  }

  /// Remembers the descriptor of `token`, which may refer to an indirect table.
  @inline(always)
  func setImage(_ token: UInt16, _ descriptor: RawDescriptor) {
    unsafe images[Int(token)] = Image(
      address: descriptor.address,
      rest: options.packed
        ? PackedDescriptor(
          address: 0, length: descriptor.length, id: token, flags: descriptor.flags
        ).secondWord
        : descriptor.secondWord)
    let isWritable = descriptor.flags & RawDescriptor.writeFlag != 0
    unsafe shadow[Int(token)].writable = isWritable ? descriptor.length : 0
  }

  /// Makes the single-descriptor buffer `token` available as its image says.
  @inline(always)
  mutating func repostInOrder(_ token: UInt16) {
    let image = unsafe images[Int(token)]
    unsafe shadow[Int(token)].chain = 1
    let slot = Int(availPosition.index)
    if options.packed {
      writePacked(slot, image.address, image.rest | UInt64(availPosition.availFlags) &<< 48)
    } else {
      unsafe descriptors[2 &* slot].store(image.address, ordering: .relaxed)
      unsafe descriptors[2 &* slot &+ 1].store(image.rest, ordering: .relaxed)
      writeAvailEntry(nextAvail, availPosition.index)
      nextAvail &+= 1
    }
    unkicked &+= 1
    availPosition.advance(by: 1, size: size)
    enqueue(token)
  }

  /// Makes the first `count` of `tokens` available as their images say.
  mutating func repostInOrder(_ tokens: Span<UInt16>, count: Int) {
    if !options.packed || options.inOrder {
      for index in 0..<count {
        precondition(Int(tokens[index]) < size)
        repostInOrder(tokens[index])
      }
      return
    }
    if count == 0 { return }
    // In registers: stores to shared memory would make the compiler reload and rewrite the members.
    let (descriptors, images, shadow, size) = unsafe (descriptors, images, shadow, size)
    var slot = Int(availPosition.index)
    var wrap = availPosition.wrap
    var flags = UInt64(availPosition.availFlags) &<< 48
    // The first one's flags wait for `publish`, unless those of one before it do.
    let first = heldSlot < 0 ? slot : -1
    for index in 0..<count {
      let token = Int(tokens[index])
      precondition(token < size)
      let image = unsafe images[token]
      unsafe shadow[token].chain = 1
      unsafe descriptors[2 &* slot].store(image.address, ordering: .relaxed)
      if index == 0, first >= 0 {
        heldSlot = first
        heldWord = image.rest | flags
      } else {
        unsafe descriptors[2 &* slot &+ 1].store(image.rest | flags, ordering: .relaxed)
      }
      slot &+= 1
      if slot == size {
        slot = 0
        wrap.toggle()
        flags = UInt64(PackedPosition(wrap: wrap).availFlags) &<< 48
      }
    }
    availPosition = PackedPosition(index: UInt16(truncatingIfNeeded: slot), wrap: wrap)
    unkicked &+= count
    outstanding &+= count
  }

  /// Writes a chain of several descriptors, or an indirect one, and gives it the next token.
  mutating func linkInOrder(_ links: [RawDescriptor], writable: UInt32) {
    let token = pop()
    freeCount -= links.count - 1
    let head = availPosition.index
    for (index, link) in links.enumerated() {
      let slot = Int(availPosition.index)
      let isLast = index + 1 == links.count
      let flags = link.flags | (isLast ? 0 : RawDescriptor.nextFlag)
      if options.packed {
        let descriptor = PackedDescriptor(
          address: link.address, length: link.length, id: token,
          flags: flags | availPosition.availFlags)
        writePacked(slot, descriptor.address, descriptor.secondWord)
        unkicked &+= 1
      } else {
        let next = isLast ? 0 : (availPosition.index &+ 1) & mask
        writeDescriptor(
          slot,
          RawDescriptor(address: link.address, length: link.length, flags: flags, next: next))
      }
      availPosition.advance(by: 1, size: size)
    }
    if !options.packed {
      writeAvailEntry(nextAvail, head)
      nextAvail &+= 1
      unkicked &+= 1
    }
    unsafe shadow[Int(token)] = Shadow(chain: UInt16(links.count), writable: writable)
    enqueue(token)
  }

  @inline(always)
  private mutating func enqueue(_ token: UInt16) {
    if options.inOrder { unsafe order[place(orderFront &+ outstanding)] = token }
    outstanding &+= 1
  }

  /// Index in `order` of a place less than one lap ahead.
  @inline(always)
  private func place(_ index: Int) -> Int { index >= size ? index &- size : index }

  // ---- Used buffers ----

  /// The next used buffer of a ring with VIRTIO_F_IN_ORDER, judged; its descriptors stay the caller's.
  ///
  /// A used entry that names a later buffer than the oldest stands for all up to it; the others count as
  /// written in full (2.7.9, 2.8.8).
  mutating func takeInOrder() -> Used? {
    if batch == nil, !nextBatch() { return nil }
    guard let last = batch else { return nil }
    let token = unsafe order[orderFront]
    let (chain, writable) = unsafe (shadow[Int(token)].chain, shadow[Int(token)].writable)
    orderFront = place(orderFront &+ 1)
    outstanding &-= 1
    usedPosition.advance(by: Int(chain), size: size)
    if !options.packed { nextUsedIndex &+= 1 }
    if skipped > 0 {
      skipped &-= 1
      return Used(token: token, length: writable)
    }
    batch = nil
    if last.length > writable {
      note(.overlong(token: token, length: last.length, writable: writable))
    }
    return Used(token: token, length: min(last.length, writable))
  }

  /// Takes up to `limit` used buffers of one descriptor each.
  mutating func takeInOrder(
    _ tokens: inout MutableSpan<UInt16>, lengths: inout MutableSpan<UInt32>, limit: Int
  ) -> Int {
    if !options.inOrder { return takePacked(&tokens, lengths: &lengths, limit: limit) }
    var taken = 0
    while taken < limit, let used = takeSingle() {
      tokens[taken] = used.token
      lengths[taken] = used.length
      taken &+= 1
    }
    return taken
  }

  /// Looks for a used entry and finds how many buffers it stands for. Returns whether there is one.
  private mutating func nextBatch() -> Bool {
    let id: UInt32
    let length: UInt32
    var limit = outstanding
    if options.packed {
      guard !isLost, let used = packedUsed(at: usedPosition) else { return false }
      (id, length) = (UInt32(used.token), used.length)
    } else {
      if isLost || (nextUsedIndex == seenUsed && !refreshUsed()) { return false }
      (id, length) = readUsedEntry(nextUsedIndex)
      limit = min(limit, Int(seenUsed &- nextUsedIndex))
    }
    // The id is a token in a packed ring, a head in a split one.
    var head = Int(usedPosition.index)
    for ahead in 0..<limit {
      let token = unsafe order[place(orderFront &+ ahead)]
      if id == (options.packed ? UInt32(token) : UInt32(head)) {
        skipped = ahead
        batch = Used(token: token, length: length)
        return true
      }
      head = unsafe (head &+ Int(shadow[Int(token)].chain)) & Int(mask)
    }
    note(.unknownToken(id))
    isLost = true
    return false
  }
}
