internal import Linux
internal import Synchronization
internal import VirtioDriver

/// A thread that writes words of a guest's memory anew, at full speed, each with one of its values after another.
final class Mutator: Sendable {
  /// A word of 4 or 8 bytes, and what is written there.
  enum Word: Sendable {
    case half(GuestBuffer, [UInt32])
    case whole(GuestBuffer, [UInt64])
  }

  private let finish = Atomic<Bool>(false)
  private let thread = Lock<Linux.Thread?>(nil)

  /// - Parameters:
  ///   - words: aligned to their lengths.
  ///   - memory: what they lie in; kept for as long as the thread runs.
  init(_ words: [Word], of memory: GuestMemory) throws(SystemError) {
    let started = try Linux.Thread(name: "mutator") { [self] in
      var round = 0
      while !finish.load(ordering: .relaxed) {
        // Words change by turns and together: every combination comes.
        for (index, word) in words.enumerated() {
          let choice = round &>> (index & 3)
          // SAFETY: the buffer is four or eight bytes of the memory, which the closure keeps mapped; an atomic
          // integer is laid out as the integer.
          switch word {
          case .half(let place, let values):
            unsafe place.pointer.assumingMemoryBound(to: Atomic<UInt32>.self).pointee
              .store(values[choice % values.count], ordering: .relaxed)
          case .whole(let place, let values):
            unsafe place.pointer.assumingMemoryBound(to: Atomic<UInt64>.self).pointee
              .store(values[choice % values.count], ordering: .relaxed)
          }
        }
        round &+= 1
      }
      withExtendedLifetime(memory) {}
    }
    thread.withLock { $0 = started }
  }

  func stop() {
    finish.store(true, ordering: .relaxed)
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
  }
}
