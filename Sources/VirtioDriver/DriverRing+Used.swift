public import Linux
internal import Synchronization

/// Taking used buffers back (virtio v1.4, 2.7.14 and 2.8.22) and asking for interrupts (2.7.7, 2.8.10).
extension DriverRing {
  /// A buffer that the device has returned.
  public struct Used: Sendable, Equatable {
    public var token: UInt16
    /// Bytes the device wrote.
    public var length: UInt32
  }

  /// The next used buffer, whose descriptors are free again; `nil` when there is none. What the device
  /// does wrong is noted in `violation` and skipped.
  public mutating func nextUsed() -> Used? {
    guard let used = takeUsed() else { return nil }
    freeChain(used.token)
    return used
  }

  /// The next used buffer, judged; its descriptors stay the caller's.
  @inline(always)
  mutating func takeUsed() -> Used? {
    if isSequential { return options.inOrder ? takeInOrder() : takePacked() }
    while true {
      if nextUsedIndex == seenUsed, !refreshUsed() { return nil }
      let (id, length) = readUsedEntry(nextUsedIndex)
      nextUsedIndex &+= 1
      // SAFETY: the second condition is evaluated only for an index below `size`.
      guard id < UInt32(size), unsafe shadow[Int(id)].chain != 0 else {
        note(.unknownToken(id))
        continue
      }
      let token = UInt16(truncatingIfNeeded: id)
      let writable = unsafe shadow[Int(id)].writable
      if length > writable {
        note(.overlong(token: token, length: length, writable: writable))
      }
      outstanding &-= 1
      return Used(token: token, length: min(length, writable))
    }
  }

  /// Loads `used.idx`; returns whether there is something new.
  mutating func refreshUsed() -> Bool {
    let index = usedIndex
    let count = index &- nextUsedIndex
    if count == 0 { return false }
    if Int(count) > outstanding {
      // Not followed: the ring behaves as if nothing had come until the device moves the index back.
      if seenJump != index { note(.usedIndexJump(from: nextUsedIndex, to: index)) }
      seenJump = index
      return false
    }
    seenUsed = index
    return true
  }

  @inline(never)
  mutating func note(_ offence: Violation) {
    if violation == nil { violation = offence }
    violations += 1
  }

  /// Gives the descriptors of buffer `head` back.
  @inline(always)
  mutating func freeChain(_ head: UInt16) {
    if isSequential {
      let chain = unsafe shadow[Int(head)].chain
      unsafe shadow[Int(head)].chain = 0
      push(head)
      freeCount &+= Int(chain) &- 1
      return
    }
    // SAFETY: links were written by `add`, all below `size`; `chain` bounds the walk.
    var remaining = unsafe shadow[Int(head)].chain
    unsafe shadow[Int(head)].chain = 0
    var index = head
    while remaining > 0 {
      push(index)
      index = unsafe shadow[Int(index)].next
      remaining &-= 1
    }
  }

  // ---- Interrupts ----

  /// Asks the device not to interrupt (2.7.7.1). With EVENT_IDX a split ring's flag must stay 0: the event
  /// index is put as far away as it goes.
  public func disableInterrupts() {
    if options.packed {
      driverEvent = EventSuppression(.disable)
    } else if options.eventIndex {
      usedEvent = nextUsedIndex &- 1
    } else {
      availFlags = 1
    }
  }

  /// Asks the device to interrupt at the next used buffer. Returns whether there is one already; then no
  /// interrupt need come, and the caller must look.
  public func enableInterrupts() -> Bool {
    if options.packed {
      driverEvent =
        options.eventIndex
        ? EventSuppression(.descriptor, at: usedPosition) : EventSuppression(.enable)
    } else if options.eventIndex {
      usedEvent = nextUsedIndex
    } else {
      availFlags = 0
    }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return hasUsed
  }

  /// Asks the device to interrupt once it has used `count` (1 or more) further buffers, not before: what drivers do whose
  /// sender waits for room. Needs EVENT_IDX and a split ring. Returns whether so many are there already.
  public func postponeInterrupts(by count: Int) -> Bool {
    precondition(options.eventIndex && !options.packed && count >= 1)
    usedEvent = nextUsedIndex &+ UInt16(count - 1)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return usedIndex &- nextUsedIndex >= UInt16(count)
  }

  /// Sleeps until the device interrupts or `milliseconds` are over; returns at once when used buffers are
  /// waiting. Returns whether there are any.
  public func waitForUsed(milliseconds: Int) throws(SystemError) -> Bool {
    if enableInterrupts() {
      disableInterrupts()
      return true
    }
    _ = try Poller.wait(
      [(descriptor: callEvent.descriptor.raw, interest: .read)], milliseconds: milliseconds)
    callEvent.drain()
    disableInterrupts()
    return hasUsed
  }
}
