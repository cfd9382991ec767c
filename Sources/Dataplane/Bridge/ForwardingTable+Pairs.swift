extension ForwardingTable {
  /// What a worker found lately for a frame's two addresses: that its source is known where it was heard, and where its
  /// destination is. With many addresses a port a burst asks that of every frame; this is one look where the table, with
  /// its hints, takes two, and two hashes.
  ///
  /// Theory of operation. A place, chosen by a keyed hash of both addresses, has them as they are in a frame's first 12
  /// bytes, what the answer was given for (the view: the source's port and domain, the present stamp), the table's generation
  /// before it was looked for, and the answer. While all of these are the same, nothing that was known then is known
  /// otherwise now: addresses that are new to the table change nothing of it, every other change has a generation. So
  /// nobody need tell a worker of it. A guest that has the table forget addresses all the time, or has more pairs than there
  /// are places, brings the others back to what the table takes.
  ///
  /// SAFETY: the memory has `count` places, and indices are hashes reduced to that.
  @safe struct Pairs {
    /// Of 128 pairs, 64 addresses each way, one in sixteen finds its place taken and gets the one beside it, in the same
    /// cache line.
    private static let bits: UInt64 = 11
    private static let count = 1 << Int(bits)
    /// Behind the hints.
    static let offset = Hints.count * MemoryLayout<UInt32>.stride
    static let byteCount = count * MemoryLayout<Pair>.stride

    private struct Pair: BitwiseCopyable {
      /// The frame's first eight bytes, and the next four with the view above them.
      var first: UInt64
      var second: UInt64
      var generation: UInt64
      /// The destination's word.
      var destination: UInt64

      /// Whether it is of the pair that has this place.
      @inline(always)
      func isOf(_ place: Place) -> Bool {
        (first ^ place.first) | (second ^ place.second) == 0
      }

      @inline(always)
      func answers(_ place: Place, _ generation: UInt64) -> Bool {
        (first ^ place.first) | (second ^ place.second) | (self.generation ^ generation) == 0
      }
    }

    private let places: UnsafeMutablePointer<Pair>

    @inline(always)
    init(_ memory: UnsafeMutableRawPointer) {
      unsafe places = unsafe memory.assumingMemoryBound(to: Pair.self)
    }

    /// What answers are given for, in bits 32 to 63.
    ///
    /// - Parameters:
    ///   - port: that frames come from, below `maximumPorts`.
    ///   - now: the present stamp.
    @inline(always)
    static func view(port: Int, domain: UInt16, now: UInt64) -> UInt64 {
      UInt64(truncatingIfNeeded: port) &<< 32 | UInt64(domain) &<< 42 | now &<< 58
    }

    /// Where the pair of a frame has its place.
    private struct Place {
      let first: UInt64
      let second: UInt64
      let index: Int

      @inline(always)
      init(_ header: EthernetHeader, _ view: UInt64, _ secret: UInt64, _ multiplier: UInt64) {
        first = header.first
        second = UInt64(littleEndian: header.second) & 0xFFFF_FFFF | view
        let hash = KeyedHash.hash(
          first ^ (second &<< 32 | second &>> 32), secret, multiplier: multiplier)
        index = Int(truncatingIfNeeded: hash &>> (64 &- Pairs.bits))
      }
    }

    /// What is known of a burst's frames.
    struct Found {
      /// Whether there is none that the table must be asked for.
      var isComplete: Bool
      /// Whether all answers are the same.
      var isAlike: Bool
    }

    /// Gives frames 0 ..< `count` of a burst the words of their destinations, or `Burst.Destination.unknown`. Few
    /// instructions each, none of which waits for those of another frame: a function of its own, as its loop wants
    /// every register.
    ///
    /// - Parameters:
    ///   - headers: what is found of frames that were dropped means nothing.
    ///   - generation: loaded before.
    @inline(never)
    func find(
      _ headers: UnsafeMutablePointer<EthernetHeader>,
      _ destinations: UnsafeMutablePointer<UInt32>, _ count: Int, view: UInt64, generation: UInt64,
      _ table: ForwardingTable
    ) -> Found {
      let (secret, multiplier) = (table.secret, table.multiplier)
      let places = unsafe places
      var isComplete = true
      var different: UInt32 = 0
      var index = 0
      while index < count {
        let place = unsafe Place(headers[index], view, secret, multiplier)
        var pair = unsafe places[place.index]
        var isFound = pair.answers(place, generation)
        if !isFound {
          pair = unsafe places[place.index ^ 1]
          isFound = pair.answers(place, generation)
          if !isFound { isComplete = false }
        }
        let result =
          isFound ? UInt32(truncatingIfNeeded: pair.destination) : Burst.Destination.unknown
        unsafe destinations[index] = result
        different |= unsafe result ^ destinations[0]
        index &+= 1
      }
      return Found(isComplete: isComplete, isAlike: different == 0)
    }

    /// Keeps an answer for frames with the addresses of `header`.
    ///
    /// - Parameter generation: before the table was asked.
    @inline(always)
    func set(
      _ header: EthernetHeader, view: UInt64, generation: UInt64, _ destination: UInt32,
      _ table: ForwardingTable
    ) {
      let place = Place(header, view, table.secret, table.multiplier)
      let other = unsafe places[place.index]
      let isTaken = other.generation == generation && !other.isOf(place)
      unsafe places[isTaken ? place.index ^ 1 : place.index] = Pair(
        first: place.first, second: place.second, generation: generation,
        destination: UInt64(destination))
    }
  }
}
