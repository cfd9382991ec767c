internal import Glibc
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Two guests that send each other numbered frames at a steady rate, and measure how long they wait for the next: what a
/// crowd beside them must not disturb.
///
/// One thread drives both, so that one clock says when the sender sent and the receiver got. It sleeps between the
/// frames: the processor is the crowd's too.
final class Pair: Sendable {
  /// What happened to the frames of both, by direction where there are two of anything.
  struct Reading: Sendable {
    var sent = [0, 0]
    var arrived = [0, 0]
    var reordered = 0
    /// Frames of the peer's that were not whole.
    var corrupt = 0
    /// Frames of others.
    var strange = 0
    /// Times that a frame was not sent as too many were under way.
    var held = 0
    /// Between two frames, by the receiver's clock; and less the time for which this thread itself was late, as it had
    /// no processor.
    var gaps = [Gaps(), Gaps()]
    var excused = [Gaps(), Gaps()]
    /// Nanoseconds, the longest that this thread was late.
    var latest = 0
    /// Frames that a transmitq has not given back.
    var outstanding = 0
    /// Whether nothing more will be sent.
    var isResting = false

    var lost: Int { sent[0] + sent[1] - arrived[0] - arrived[1] }
  }

  /// Descriptors of a ring, and the most frames under way: the rest of a receiveq is for what the crowd sends.
  private static let ringSize = 1024
  private static let window = 512

  private let guests: [GuestPort]
  private let state = Lock(Reading())
  private let isSilent = Atomic<Bool>(false)
  private let finish = Atomic<Bool>(false)
  private let thread = Lock<Linux.Thread?>(nil)
  /// Nanoseconds between two frames of a direction.
  private let interval: Int
  /// Whether it comes before others on its CPU; set by its thread as it begins.
  private let isPreferred = Atomic<Bool>(false)

  /// - Parameter rate: frames a second, of each direction.
  init(_ sockets: [String], rate: Int, timeout: Int) throws {
    var options = GuestPort.Options()
    options.ringSize = Pair.ringSize
    options.timeout = timeout
    guests = try sockets.map { try GuestPort(path: $0, options: options) }
    interval = 1_000_000_000 / rate
    let started = try Linux.Thread(name: "pair") { [self] in run() }
    thread.withLock { $0 = started }
  }

  var reading: Reading { state.withLock { $0 } }
  var hasPriority: Bool { isPreferred.load(ordering: .relaxed) }

  /// What each has counted, and what the switch did against the specification, in words, after `stop`.
  var statistics: [QueuePair.Statistics] { guests.map(\.statistics) }
  var offences: [String] { guests.flatMap(\.offences) }

  /// Counts gaps anew.
  func forgetGaps() {
    state.withLock { reading in
      reading.gaps = [Gaps(), Gaps()]
      reading.excused = [Gaps(), Gaps()]
      reading.latest = 0
    }
  }

  /// Waits until each has got `frames` more; false when `milliseconds` were not enough.
  func advance(by frames: Int, milliseconds: Int) -> Bool {
    let marks = reading.arrived.map { $0 + frames }
    return Deadline.wait(milliseconds: milliseconds) {
      zip(reading.arrived, marks).allSatisfy { $0 >= $1 }
    }
  }

  /// Sends nothing any more, and waits for what is under way; what has not come in time is lost.
  func rest(milliseconds: Int) {
    isSilent.store(true, ordering: .relaxed)
    _ = Deadline.wait(milliseconds: milliseconds) {
      let reading = reading
      return reading.isResting && reading.lost == 0 && reading.outstanding == 0
    }
  }

  func stop() {
    finish.store(true, ordering: .relaxed)
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
    for guest in guests { guest.disconnect() }
  }

  // ---- The thread ----

  /// What the thread keeps of one direction.
  private struct Direction {
    var next: UInt64 = 0
    var expected: UInt64 = 0
    /// When the last frame came; `nil`: nobody sends, so nobody waits.
    var last: Int?
    /// Nanoseconds that this thread was late since then.
    var late = 0
  }

  private func run() {
    // Otherwise it is the kernel's choice among a crowd of threads that is measured. No real-time scheduling: where the
    // work of a round takes longer than the time for it, that would leave nobody else the CPU.
    // 0 is the calling thread.
    isPreferred.store(
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -20) == 0,
      ordering: .relaxed)
    var directions = [Direction(), Direction()]
    var due = Pair.now
    while !finish.load(ordering: .relaxed) {
      let begin = Pair.now
      let late = max(0, begin - due)
      let sends = !isSilent.load(ordering: .relaxed)
      for index in directions.indices {
        directions[index].late += late
        if sends { send(index, &directions[index]) } else { directions[index].last = nil }
      }
      state.withLock { reading in
        reading.latest = max(reading.latest, late)
        reading.isResting = !sends
      }
      for index in directions.indices { receive(index, &directions[index], measures: sends) }
      // What was missed is not made up for, so the rate never rises; and it sleeps as long as it worked, at least: half
      // of the CPU is for others, however busy the machine.
      let end = Pair.now
      due = max(due + interval, end + (end - begin))
      Pair.sleep(until: due)
    }
  }

  private func send(_ index: Int, _ direction: inout Direction) {
    let pair = guests[index].pairs[0]
    let frame = TestFrame.make(
      to: .station(1 - index), from: .station(index), stream: UInt32(index),
      sequence: direction.next)
    guard direction.next - direction.expected < Pair.window, pair.enqueue(frame) else {
      return state.withLock { $0.held += 1 }
    }
    pair.flush()
    direction.next += 1
    state.withLock { $0.sent[index] += 1 }
  }

  /// Takes what has come of a direction, at its other end.
  private func receive(_ index: Int, _ direction: inout Direction, measures: Bool) {
    let pair = guests[1 - index].pairs[0]
    let sender = guests[index].pairs[0]
    sender.reclaim()
    while let frame = pair.receive() {
      let now = Pair.now
      guard let content = TestFrame.verify(frame), content.stream == UInt32(index) else {
        let isPeers = frame.dropFirst(6).starts(with: EthernetAddress.station(index).bytes)
        state.withLock { reading in
          if isPeers { reading.corrupt += 1 } else { reading.strange += 1 }
        }
        continue
      }
      let isLate = content.sequence < direction.expected
      let gap = direction.last.map { now - $0 }
      let late = direction.late
      state.withLock { reading in
        reading.arrived[index] += 1
        if isLate { reading.reordered += 1 }
        if measures, let gap {
          reading.gaps[index].note(nanoseconds: gap)
          reading.excused[index].note(nanoseconds: gap - late)
        }
      }
      direction.expected = max(direction.expected, content.sequence + 1)
      direction.last = now
      direction.late = 0
    }
    let outstanding = guests.reduce(0) { $0 + $1.pairs[0].transmitq.outstanding }
    state.withLock { $0.outstanding = outstanding }
  }

  /// Nanoseconds on the monotonic clock.
  private static var now: Int {
    var time = timespec()
    // SAFETY: fills the local.
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }

  private static func sleep(until moment: Int) {
    var time = timespec(tv_sec: moment / 1_000_000_000, tv_nsec: moment % 1_000_000_000)
    // SAFETY: reads the local during the call.
    _ = unsafe clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil)
  }
}
