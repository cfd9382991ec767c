/// Pass 1 of a burst whose frames differ: what is known of pairs of addresses answers for most of it at once
/// (`ForwardingTable.Pairs`); for the others the table is asked, a frame after the other, and learns.
///
/// SAFETY: the source is the plan's that this turn uses; frames are below `Burst.size`.
extension Worker {
  /// Gives each frame its destination. Returns the port that all of them go to, if there is one.
  mutating func classify(
    _ source: UnsafePointer<Plan.Source>, _ gathered: Gathered
  ) -> Int? {
    let now = table.now
    let view = ForwardingTable.Pairs.view(
      port: Int(unsafe source.pointee.port), domain: unsafe source.pointee.domain, now: now)
    let generation = table.generation
    let found = unsafe hints.pairs.find(
      burst.headers, burst.destinations, gathered.frames, view: view, generation: generation, table
    )
    if found.isComplete, gathered.dropped == 0 {
      return found.isAlike ? Destination(word: unsafe burst.destinations[0]).port : nil
    }
    return unsafe classifyRest(
      source, gathered, Asking(view: view, generation: generation, now: now, heard: gathered.frames)
    )
  }

  /// `classify` of a burst of which not everything is known.
  @inline(never)
  private mutating func classifyRest(
    _ source: UnsafePointer<Plan.Source>, _ gathered: Gathered, _ begin: Asking
  ) -> Int? {
    var asking = begin
    let destinations = unsafe burst.destinations
    var alike = gathered.dropped == 0
    for index in 0..<gathered.frames {
      if gathered.dropped &>> UInt64(index) & 1 != 0 {
        unsafe destinations[index] = Burst.Destination.none
        continue
      }
      // Something has changed since: what was found may be so no longer.
      let isOld = asking.generation != begin.generation
      if unsafe isOld || destinations[index] == Burst.Destination.unknown {
        unsafe destinations[index] = unsafe ask(index, source, &asking)
      }
      if unsafe destinations[index] != destinations[0] { alike = false }
    }
    if asking.heard < gathered.frames {
      unsafe source.pointee.counters.add(.deferred, gathered.frames &- asking.heard)
    }
    let common = unsafe destinations[0]
    return alike && common < Verdict.least ? Destination(word: common).port : nil
  }

  /// What is known within a burst while the table is asked for its frames.
  private struct Asking {
    let view: UInt64
    /// The table's, before the frames that are still to be asked for.
    var generation: UInt64
    let now: UInt64
    /// Frames whose sources may be learned: a burst may bring so many new ones.
    var heard: Int
    // What the frame before was found to be need not be looked up again. The memory of it lasts one burst, in
    // which an address can only move here: that of a destination looked up before it is heard is looked up anew.
    var lastSource = UInt64.max
    /// Whether that one was known, before the present generation, to be where it was heard.
    var isCurrent = false
    var lastDestination = UInt64.max
    var lastResult: UInt32 = 0
  }

  /// Learns a frame's source and looks its destination up in the table; drops it if it goes nowhere. Returns the
  /// destination's word, or one of `Burst.Destination`.
  @inline(always)
  private func ask(
    _ index: Int, _ source: UnsafePointer<Plan.Source>, _ asking: inout Asking
  ) -> UInt32 {
    let counters = unsafe source.pointee.counters
    let port = Int(unsafe source.pointee.port)
    let domain = unsafe source.pointee.domain
    let header = unsafe burst.headers[index]
    let from = ForwardingKey(header.source, domain: domain)
    let here = Destination(port: port)
    if from.word != asking.lastSource {
      if !header.source.isValidSource {
        counters.drop(.invalidSource)
        return Burst.Destination.none
      }
      asking.isCurrent =
        index < asking.heard && table.isCurrent(from, here, now: asking.now, hints)
      if index < asking.heard, !asking.isCurrent {
        if unsafe !learn(from, here, now: asking.now, source) { asking.heard = index }
        // Answers are kept under the generation that was there before both were found.
        let generation = table.generation
        if generation != asking.generation { asking.lastDestination = .max }
        asking.generation = generation
      }
      asking.lastSource = from.word
      if from.word == asking.lastDestination { asking.lastDestination = .max }
    }
    let to = ForwardingKey(header.destination, domain: domain)
    if to.word != asking.lastDestination {
      asking.lastDestination = to.word
      asking.lastResult = look(up: to, from: port)
    }
    let result = asking.lastResult
    if result >= Verdict.least {
      if result == Burst.Destination.flood { return result }
      counters.drop(Verdict.reason(result))
      return Burst.Destination.none
    }
    if asking.isCurrent {
      hints.pairs.set(
        header, view: asking.view, generation: asking.generation, result, table)
    }
    return result
  }

  /// What `look` says of a frame that goes nowhere: values beside the two of `Burst.Destination`.
  enum Verdict {
    static let reserved = Burst.Destination.flood - 1
    static let hairpin = Burst.Destination.flood - 2
    static let down = Burst.Destination.flood - 3
    /// No destination has this word or a greater one.
    static let least = down

    static func reason(_ result: UInt32) -> DropReason {
      switch result {
      case reserved: .reservedMulticast
      case hairpin: .hairpin
      default: .destinationDown
      }
    }
  }

  @inline(always)
  func look(up key: ForwardingKey, from port: Int) -> UInt32 {
    // No station has the address 0, which the table's empty slots hold in domain 0.
    if key.mac.isGroup || key == .none {
      return key.mac.isReserved ? Verdict.reserved : Burst.Destination.flood
    }
    let found = table.destination(of: key, hints)
    if found < 0 { return Burst.Destination.flood }
    let output = found & (Ports.maximum &- 1)
    if output == port { return Verdict.hairpin }
    if unsafe ports.output(output) == nil { return Verdict.down }
    return UInt32(truncatingIfNeeded: found)
  }
}
