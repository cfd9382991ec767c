internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Words of a guest's memory that are written anew, at full speed, each with one of its values after another.
///
/// By whoever has just made buffers available, while the switch takes them: on a machine of two CPUs a thread of its
/// own would run when nothing is under way.
struct Mutator {
  /// A word of 4 or 8 bytes, aligned to its length, and what is written there.
  enum Word {
    case half(GuestBuffer, [UInt32])
    case whole(GuestBuffer, [UInt64])
  }

  private let words: [Word]
  /// What the words lie in, kept mapped.
  private let memory: GuestMemory
  private var round = 0

  init(_ words: [Word], of memory: GuestMemory) {
    self.words = words
    self.memory = memory
  }

  /// Does what `body` does, on other CPUs than the first where there are any: that is the worker's, and what is
  /// written by turns with its reading is never written between two of its looks.
  static func apart<Result>(_ body: () throws -> Result) throws -> Result {
    let cpus = Affinity.current
    let others = cpus.filter { $0 != 0 }
    if !others.isEmpty { try Affinity.confine(to: others) }
    defer { try? Affinity.confine(to: cpus) }
    return try body()
  }

  /// Writes until `condition` holds, but no more than some milliseconds; looks at it seldom.
  mutating func write(until condition: () -> Bool) {
    let deadline = Deadline(milliseconds: 5)
    repeat {
      // An odd number: what the words are left as changes too.
      for _ in 0..<(256 / words.count | 1) { writeOnce() }
    } while !condition() && !deadline.isOver
  }

  /// Words change by turns and together: every combination comes.
  private mutating func writeOnce() {
    for index in words.indices {
      let choice = round &>> (index & 3)
      // SAFETY: the place is four or eight bytes of the memory, which this keeps mapped; an atomic integer is laid
      // out as the integer.
      switch words[index] {
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
}
