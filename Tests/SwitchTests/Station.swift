import Glibc
import Linux
import Synchronization
import Testing
import VirtioDriver

/// What one station has got from another, readable by others while it runs.
final class Progress: Sendable {
  /// The sequence number that is to come next.
  let next = Atomic<UInt64>(0)
}

/// A thread that drives one queue pair of a guest: sends checked frames to peers, receives and checks
/// what comes. It keeps no more frames under way to a peer than fit a receiveq, so that without
/// disturbance nothing is lost.
final class Station: Sendable {
  /// One stream of frames from here.
  struct Flow: Sendable {
    var to: Address
    var from: Address
    /// Of the receiver: how far this stream has come; `nil`: nobody tells.
    var progress: Progress?
    var stream: UInt32
  }

  struct Result: Sendable {
    /// By stream.
    var sent: [UInt32: UInt64] = [:]
    var checkers: [UInt32: SequenceChecker] = [:]
    /// Frames that were no test frames, or not whole.
    var corrupt = 0

    var received: Int { checkers.values.reduce(0) { $0 + $1.received } }
    var missing: Int { checkers.values.reduce(0) { $0 + $1.missing } }
    var reordered: Int { checkers.values.reduce(0) { $0 + $1.reordered } }
  }

  private let finish = Atomic<Bool>(false)
  private let thread = Lock<Linux.Thread?>(nil)
  private let result = Lock(Result())

  /// - Parameters:
  ///   - limit: frames of each flow; `nil`: until `stop`.
  ///   - window: most frames of a flow under way.
  ///   - progress: by stream: where to tell how far it has come here.
  init(
    _ guest: GuestPort, queue: Int = 0, flows: [Flow], limit: UInt64? = nil, window: UInt64 = 64,
    lengths: ClosedRange<Int> = 60...600, progress: [UInt32: Progress] = [:]
  ) throws {
    let started = try Linux.Thread(name: "station") { [self] in
      let pair = guest.pairs[queue]
      var result = Result()
      var random = UInt64(flows.first?.stream ?? 1) | 1
      var next = [UInt64](repeating: 0, count: flows.count)
      var stalls = [Int](repeating: 0, count: flows.count)
      while !finish.load(ordering: .relaxed) {
        var busy = false
        for (index, flow) in flows.enumerated() {
          var burst = 0
          while burst < 32, limit.map({ next[index] < $0 }) ?? true {
            if let progress = flow.progress {
              let arrived = progress.next.load(ordering: .relaxed)
              // The last frames of a window may be among those that were dropped: then one more goes.
              if next[index] >= arrived + window {
                stalls[index] += 1
                if stalls[index] < 50 { break }
              }
              stalls[index] = 0
            }
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            let frame = TestFrame.make(
              to: flow.to, from: flow.from, stream: flow.stream, sequence: next[index],
              length: lengths.lowerBound + Int(random % UInt64(lengths.count)))
            if !pair.enqueue(frame) { break }
            next[index] += 1
            burst += 1
          }
          if burst > 0 {
            pair.flush()
            busy = true
          }
        }
        if Station.receive(pair, &result, progress) { busy = true }
        if !busy { _ = try? pair.receiveq.waitForUsed(milliseconds: 1) }
      }
      for (index, flow) in flows.enumerated() { result.sent[flow.stream] = next[index] }
      self.result.withLock { $0 = result }
    }
    thread.withLock { $0 = started }
  }

  /// Takes what has come. Returns whether something had.
  @discardableResult
  static func receive(
    _ pair: QueuePair, _ result: inout Result, _ progress: [UInt32: Progress] = [:]
  ) -> Bool {
    var some = false
    while let frame = pair.receive() {
      some = true
      guard let content = TestFrame.verify(frame) else {
        result.corrupt += 1
        continue
      }
      result.checkers[content.stream, default: SequenceChecker()].accept(frame)
      progress[content.stream]?.next.store(content.sequence + 1, ordering: .relaxed)
    }
    return some
  }

  /// Ends the thread; the queue pair is the caller's again.
  func stop() -> Result {
    finish.store(true, ordering: .relaxed)
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
    return result.withLock { $0 }
  }
}

/// Pairs of guests that exchange checked frames while something else goes on.
struct SteadyTraffic {
  let guests: [GuestPort]
  private let stations: [Station]
  private let progress: [Progress]

  /// Guests 0 and 1 send to each other, 2 and 3, and so on; guest n is station n and sends stream n.
  init(_ guests: [GuestPort], lengths: ClosedRange<Int> = 60...600) throws {
    precondition(guests.count % 2 == 0)
    try introduce(guests)
    let progress = guests.map { _ in Progress() }
    self.guests = guests
    self.progress = progress
    stations = try guests.indices.map { index in
      let peer = index ^ 1
      return try Station(
        guests[index],
        flows: [
          .init(
            to: .station(peer), from: .station(index), progress: progress[index],
            stream: UInt32(index))
        ], lengths: lengths, progress: [UInt32(peer): progress[peer]])
    }
  }

  /// Frames that have arrived so far.
  var arrived: UInt64 { progress.reduce(0) { $0 + $1.next.load(ordering: .relaxed) } }

  /// Waits until every stream has moved on by `frames`.
  func advance(by frames: UInt64) -> Bool {
    let marks = progress.map { $0.next.load(ordering: .relaxed) + frames }
    return eventually {
      zip(progress, marks).allSatisfy { $0.next.load(ordering: .relaxed) >= $1 }
    }
  }

  /// Ends the traffic and takes what is still under way. By guest.
  func stop() -> [Station.Result] {
    var results = stations.map { $0.stop() }
    for guest in guests { guest.settle() }
    for (index, guest) in guests.enumerated() { Station.receive(guest.pairs[0], &results[index]) }
    return results
  }
}
